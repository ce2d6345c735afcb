# SPDX-License-Identifier: Apache-2.0
"""The hooks of the spec itself, run as the runtime would have run them.

A runtime has read its configuration before it calls a prestart hook: a hook that is added then is
never run. So it is run from here: at its stage's place, with the environment that the spec gives it
and no other, the state on its standard input, and its own time limit.
"""

from __future__ import annotations

import os
import sys
import time

from cdi_base import HOOK, child, process, syscalls
from cdi_base.errors import HookError, shown
from cdi_base.files import same_file
from cdi_base.json_object import number_of, object_of, objects_of, text_of, texts_of
from cdi_base.strict_json import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Document = dict[str, object]

ON_THE_HOST = ("prestart", "createRuntime")
IN_THE_CONTAINER = "createContainer"
SECONDS = 30
"""For a hook whose spec says nothing."""
MOST_SECONDS = 120
MAX_SAID = 2048

OURS = f"{__file__.rpartition('/')[0]}/../../{HOOK}"

_CONFIG = "config.json"
_SIGKILL = 9


class Hook:
    """An entry of `hooks` of an OCI configuration."""

    __slots__ = ("arguments", "environment", "main", "path", "seconds")

    def __init__(self, document: Document) -> None:
        self.path = text_of(document, "path", _CONFIG)
        if not self.path.startswith("/"):
            raise HookError(
                f"the spec's hook {shown(self.path)} has no absolute path", code="CDG-T401"
            )
        self.arguments = texts_of(document, "args", _CONFIG) or [self.path]
        entries = texts_of(document, "env", _CONFIG)
        self.environment = dict(entry.partition("=")[::2] for entry in entries)
        asked = number_of(document, "timeout", _CONFIG)
        self.seconds = min(MOST_SECONDS, asked if asked and asked > 0 else SECONDS)
        self.main = _main_of(self.path) if self.arguments[1:2] != ["--dry-run"] else None


def _main_of(path: str) -> Callable[[], None] | None:
    """What our own hook program does, if the spec's hook is that; imported before any image's file.

    A child that does it need not start an interpreter, which takes longer than all the rest.
    """
    try:
        if not same_file(os.stat(path), os.stat(OURS)):
            return None
    except OSError:
        return None
    from cdi_hook import __main__ as program  # noqa: PLC0415

    program.load_all()
    return program.main


class Hooks:
    """Those of a spec that can be run from a prestart hook."""

    __slots__ = ("in_the_container", "on_the_host")

    def __init__(self, config: Document) -> None:
        """Read them.

        Raises:
            HookError: there is one of a later stage.
        """
        stages = object_of(config, "hooks", _CONFIG)
        for stage in stages:
            if stage not in {*ON_THE_HOST, IN_THE_CONTAINER}:
                raise HookError(
                    f"the spec has a {stage} hook, which a prestart hook cannot run: use a CDI "
                    "engine or the runtime shim",
                    code="CDG-T003",
                )
        self.on_the_host = [
            Hook(each) for stage in ON_THE_HOST for each in objects_of(stages, stage, _CONFIG)
        ]
        self.in_the_container = [
            Hook(each) for each in objects_of(stages, IN_THE_CONTAINER, _CONFIG)
        ]

    def seconds(self) -> int:
        """How long all of them may take."""
        return sum(hook.seconds for hook in (*self.on_the_host, *self.in_the_container))


def encoded(state: Document) -> bytes:
    """A state as hooks get it."""
    return encode(state).encode("ascii")


def run(hooks: Sequence[Hook], state: bytes, directory: str) -> None:
    """Run hooks, one after the other, from where this process is.

    Args:
        hooks: of one stage.
        state: what each gets on its standard input.
        directory: where each starts; the root directory if it cannot be entered.

    Raises:
        HookError: one has failed; it may have said why.
    """
    for hook in hooks:
        _run(hook, state, directory)


def _run(hook: Hook, state: bytes, directory: str) -> None:
    until = time.monotonic() + hook.seconds
    try:
        status, output = child.run_forked(
            lambda reading, talking: _become(hook, directory, (reading, talking)),
            until,
            most=MAX_SAID,
            content=state,
        )
    except TimeoutError:
        raise HookError(
            f"the spec's hook {shown(hook.path)} was not done after {hook.seconds} s",
            code="CDG-T401",
        ) from None
    if status != 0:
        raise HookError(
            f"the spec's hook {shown(hook.path)} failed ({status}): {shown(output)}",
            code="CDG-T401",
        )


def _become(hook: Hook, directory: str, streams: Iterable[int]) -> None:
    """The child: it never returns."""
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
        process.default_signals()
        for number, descriptor in zip((0, 2), streams):
            os.dup2(descriptor, number)
        os.dup2(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC), 1)
        try:
            os.chdir(directory)
        except OSError:
            os.chdir("/")
        if hook.main is not None:
            sys.argv[:] = hook.arguments
            os.environ.update(hook.environment)
            hook.main()
        os.execve(hook.path, hook.arguments, hook.environment)  # noqa: S606
    except OSError as error:
        os.write(2, (error.strerror or "").encode("utf-8", "replace"))
