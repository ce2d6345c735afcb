# SPDX-License-Identifier: Apache-2.0
"""Runs the hooks of the CDI spec as the runtime would.

A runtime reads config.json before it runs a prestart hook, so it would not run hooks that are added
then. This module runs them: in the namespaces of their stage, with only the environment that the
spec gives, the state on standard input, and their own time limit.
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
"""The time limit of a hook without `timeout`."""
MAX_SECONDS = 120
MAX_OUTPUT = 2048

CDI_GEN_HOOK = f"{__file__.rpartition('/')[0]}/../../{HOOK}"
"""The installed cdi-gen-hook."""

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
        timeout = number_of(document, "timeout", _CONFIG)
        self.seconds = min(MAX_SECONDS, timeout if timeout and timeout > 0 else SECONDS)
        self.main = _main_of(self.path) if self.arguments[1:2] != ["--dry-run"] else None


def _main_of(path: str) -> Callable[[], None] | None:
    """Return the main function of cdi-gen-hook if the spec's hook is this program; else None.

    The child can call the function without starting an interpreter, which takes longer than the
    hook itself. It is imported before any file of the image is opened.
    """
    try:
        if not same_file(os.stat(path), os.stat(CDI_GEN_HOOK)):
            return None
    except OSError:
        return None
    from cdi_hook import __main__ as program  # noqa: PLC0415

    program.load_all()
    return program.main


class Hooks:
    """The hooks of a spec that can be run from a prestart hook."""

    __slots__ = ("in_the_container", "on_the_host")

    def __init__(self, config: Document) -> None:
        """Read the hooks.

        Raises:
            HookError: a hook is of a later stage.
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
            Hook(document)
            for stage in ON_THE_HOST
            for document in objects_of(stages, stage, _CONFIG)
        ]
        self.in_the_container = [
            Hook(document) for document in objects_of(stages, IN_THE_CONTAINER, _CONFIG)
        ]

    def seconds(self) -> int:
        """Return how long all hooks together may take."""
        return sum(hook.seconds for hook in (*self.on_the_host, *self.in_the_container))


def encoded(state: Document) -> bytes:
    """Return a state as JSON, as hooks read it."""
    return encode(state).encode("ascii")


def run(hooks: Sequence[Hook], state: bytes, directory: str) -> None:
    """Run hooks, one after the other, in the namespaces of this process.

    Args:
        hooks: the hooks of one stage.
        state: the standard input of each hook.
        directory: the working directory of each hook; `/` if it cannot be entered.

    Raises:
        HookError: a hook has failed; the message has its output.
    """
    for hook in hooks:
        _run(hook, state, directory)


def _run(hook: Hook, state: bytes, directory: str) -> None:
    until = time.monotonic() + hook.seconds
    try:
        status, output = child.run_forked(
            lambda stdin, stderr: _become(hook, directory, (stdin, stderr)),
            until,
            most=MAX_OUTPUT,
            content=state,
        )
    except TimeoutError:
        raise HookError(
            f"the spec's hook {shown(hook.path)} did not end within {hook.seconds} s",
            code="CDG-T401",
        ) from None
    if status != 0:
        raise HookError(
            f"the spec's hook {shown(hook.path)} failed with status {status}: {shown(output)}",
            code="CDG-T401",
        )


def _become(hook: Hook, directory: str, streams: Iterable[int]) -> None:
    """Run the hook in the child; never returns.

    Args:
        hook: the hook.
        directory: the working directory of the hook.
        streams: descriptors for standard input and standard error.
    """
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
        # The limit on memory is this program's. A Go program reserves more than it uses.
        with process.Unbounded():
            os.execve(hook.path, hook.arguments, hook.environment)  # noqa: S606
    except OSError as error:
        os.write(2, (error.strerror or "").encode("utf-8", "replace"))
