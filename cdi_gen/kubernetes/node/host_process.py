# SPDX-License-Identifier: Apache-2.0
"""Runs a function in the host's root directory, for a process that may be in a container.

A child enters the root, so that links, paths in configuration files and programs of the host mean
what they mean on the host. This process stays where its own files are. Directories of the host that
the container has mounted elsewhere, as the GPU Operator does, get their place in the child's view
of the host: that is a mount namespace of its own, which ends with the child.

The child cannot load further modules and data from the image: `load` does before.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from cdi_base import syscalls
from cdi_gen.engines import facts
from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.host.roots import Root

MODULES = (
    "cdi_gen.engines.containerd",
    "cdi_gen.engines.crio",
    "cdi_gen.engines.docker",
    "cdi_gen.engines.hooks_d",
    "cdi_gen.engines.text.toml_text",
    "cdi_gen.store",
    "difflib",
    "encodings.idna",
    "encodings.ascii",
)

FACTS: tuple[Callable[[], object], ...] = (
    facts.containerd,
    facts.containerd_distributions,
    facts.crio,
    facts.docker,
    facts.podman,
)

MAX_BYTES = 1 << 20


class Bind(NamedTuple):
    """A directory of the host that this process sees at another path, or can only write there."""

    here: str
    on_host: str


class HostView(NamedTuple):
    """How this process sees the host."""

    host_root: str = "/"
    binds: tuple[Bind, ...] = ()

    @property
    def root(self) -> Root:
        """The host's root, for reading."""
        return Root(seen_from=self.host_root)

    @property
    def is_this_root(self) -> bool:
        """Whether the host's root is that of this process."""
        return self.host_root == "/" and not self.binds


class HostError(CdiGenError):
    """An error of the child, with its own code."""

    code = "CDG-X001"

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(
            document["message"],
            hint=document["hint"],
            code=document["code"],
            subject=document["subject"],
        )
        self.exit_code = ExitCode(document["exit_code"])


def in_host(view: HostView, function: Callable[[], Any]) -> Any:
    """Return the value of a function that a child calls in the host's root; a value of JSON.

    Raises:
        CdiGenError: the function raised it, or the root cannot be entered.
    """
    if view.is_this_root:
        try:
            return function()
        except OSError as error:
            raise CdiGenError(_message(error, view), code="CDG-X003") from error
    load()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(view, function, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read(MAX_BYTES)
    _, status = os.waitpid(child, 0)
    try:
        document = json.loads(answer)
    except ValueError:
        raise CdiGenError(
            f"the process in the host's root ended with {os.waitstatus_to_exitcode(status)} and "
            "without an answer",
            code="CDG-X001",
        ) from None
    if "error" in document:
        raise HostError(document["error"])
    return document["value"]


def load() -> None:
    """Load what the child needs: modules, and the facts about engines."""
    for name in MODULES:
        import_module(name)
    for read_facts in FACTS:
        read_facts()


def _run(view: HostView, function: Callable[[], Any], writing: int) -> NoReturn:
    """Be the child: enter the root, call the function, write its value, and end.

    Ctrl-C is for the parent: the child completes its step.
    """
    status = 1
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            enter(view)
            document: dict[str, Any] = {"value": function()}
            status = 0
        except CdiGenError as error:
            document = {"error": _error(error, error.message, error.code)}
        except OSError as error:
            document = {"error": _error(error, _message(error, view), "CDG-X003")}
        os.write(writing, json.dumps(document).encode())
    except BaseException:  # noqa: BLE001 - the child must not go on as the parent
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _message(error: OSError, view: HostView) -> str:
    return f"{error.filename or view.host_root}: {error.strerror or error}"


def _error(error: Exception, message: str, code: str) -> dict[str, Any]:
    return {
        "message": message,
        "hint": getattr(error, "hint", None),
        "code": code,
        "subject": getattr(error, "subject", ""),
        "exit_code": int(getattr(error, "exit_code", ExitCode.ERROR)),
    }


def enter(view: HostView) -> None:
    """Make the host's root the root of this process.

    Raises:
        CdiGenError: the process lacks the privileges, or a directory does not exist.
    """
    try:
        if view.binds:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.make_mounts_private()
            _bind(view.root, view.binds)
        os.chroot(view.host_root)
        os.chdir("/")
    except OSError as error:
        raise CdiGenError(
            f"the host's root {view.host_root} cannot be entered: {error.strerror}",
            hint="the container must be privileged (securityContext.privileged: true)",
            code="CDG-N408",
            subject=view.host_root,
        ) from error


def _bind(host: Root, binds: Sequence[Bind]) -> None:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    for bind in binds:
        source = os.open(bind.here, flags)
        target = os.open(host.open_path(host.resolve(bind.on_host)), flags)
        try:
            syscalls.mount(source, target, None, syscalls.MS_BIND | syscalls.MS_REC)
        finally:
            os.close(source)
            os.close(target)
