# SPDX-License-Identifier: Apache-2.0
"""The steps of the hooks. Each has a module of its name, imported if the step is requested."""

from __future__ import annotations

from cdi_base.errors import HookError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any  # noqa: TID251  (never imported when it runs)

    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.arguments import Options

    Prepare = Callable[[Options], Any]
    Run = Callable[[RootFs, Any, float], None]


class Step:
    """A step of a hook: its options, and the module that does its work.

    The module's `prepare` turns the options into a plan, or raises UsageError; nothing has been
    changed before that. A false plan is not run. `run` gets the container's root, the plan and the
    deadline; a second run changes nothing. An `OSError` ends the hook with exit status 1, except
    EROFS, EXDEV and EBUSY: the user decides on a read-only root and on volumes, so the step is left
    out with a message.

    A step without options, or with options that other steps have too, has the switch `--NAME` if
    several steps share a command line.
    """

    __slots__ = ("name", "options", "run", "switches")

    def __init__(self, name: str, *options: str, switch: bool = False, run: str = "run") -> None:
        """Declare a step.

        Args:
            name: the name of the hook that has only this step; with underscores, of the module.
            options: the options that the step's `prepare` reads.
            switch: whether the step runs only if `--NAME` is given, whatever its options.
            run: the module's function that does the work.
        """
        self.name = name
        self.run = run
        self.options = options
        self.switches = (f"--{name}",) if switch or not options else ()

    def is_requested(self, options: Options) -> bool:
        """Whether the command line has the step's switch, or one of its options."""
        return any(options[name] for name in self.switches or self.options)

    def load(self) -> tuple[Prepare, Run]:
        """Import the step's module: most containers need half of them, and each takes 0.1 ms.

        The names are constants of this package, never input.

        Raises:
            HookError: the module cannot be read; Python then reports that it does not exist.
        """
        name = self.name.replace("-", "_")
        try:
            module = __import__(f"cdi_hook.steps.{name}", fromlist=(name,))
        except ImportError as error:
            message = f"cannot load the step {self.name}: {shown(str(error))}"
            raise HookError(message, code="CDG-X003") from None
        return module.prepare, getattr(module, self.run)


STEPS = (
    Step(
        "check-requirements",
        *("--host-cuda-version", "--host-driver-version", "--host-driver-file", "--gpu"),
        switch=True,
    ),
    Step("create-symlinks", "--link", run="create_where_the_target_exists"),
    Step(
        "enable-cuda-compat",
        *("--host-driver-version", "--host-cuda-version", "--host-driver-file"),
        *("--host-gpu-brand", "--cuda-compat-container-root"),
    ),
    Step("update-ldcache", "--folder", "--ldconfig-path"),
    Step("disable-device-node-modification"),
    Step("update-application-profile"),
    Step("chmod", "--path", "--mode"),
)
"""In the order in which they run: nothing is changed for a container that must not start; links and
the compat directory exist when the loader's cache is written."""

CREATE_SYMLINKS = Step("create-symlinks", "--link")
"""The step as a hook of its own: nvidia-cdi-hook creates every link, whatever its target."""
