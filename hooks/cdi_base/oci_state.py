# SPDX-License-Identifier: Apache-2.0
"""Reads the OCI state that a runtime gives a hook, and finds the container's root by it.

The state is the runtime's and config.json was written by root; both are read strictly all the same.
"""

from __future__ import annotations

import errno
import os
import select

from cdi_base import oci_config, process
from cdi_base.errors import HookError, shown
from cdi_base.strict_json import parse_object

MAX_BYTES = 1 << 20
_WHAT = "the state on stdin"


def open_root(started_in: int | None, until: float) -> tuple[int, int | None]:
    """`O_PATH` descriptors of the directory that will be the container's `/`, and of the bundle.

    1. `root` of the state: crun says it, in the words of config.json. 2. `root.path` of the
    bundle's config.json; both may be relative to the bundle. 3. Where the
    hook was started, if config.json may not be read: under a container user namespace (Docker's
    `userns-remap`) it belongs to the host's root, and runc starts hooks in the container's root.
    The bundle is None where the state names none that can be entered.

    Raises:
        HookError: the state or config.json is not what the OCI runtime specification says.
    """
    state = of_stdin(until)
    root = state.get("root")
    if isinstance(root, str) and root.startswith("/"):
        return _open_directory(_text(root, "root")), bundle_of(state)
    bundle_path = _text(state.get("bundle"), "bundle", absolute=True)
    try:
        bundle = _open_directory(bundle_path)
        if root is not None:
            return _open_directory(_text(root, "root"), bundle), bundle
        config = oci_config.read(bundle)
    except PermissionError:
        if started_in is None:
            raise
        return _not_the_bundle(started_in, bundle_path), None
    section = config.get("root")
    if not isinstance(section, dict):
        raise HookError("config.json has no 'root'", code="CDG-K004")
    return _open_directory(_text(section.get("path"), "root.path"), bundle), bundle


def of_stdin(until: float) -> dict[str, object]:
    """The OCI state on standard input.

    Raises:
        HookError: it is none, is larger than 1 MiB, or does not end in time.
    """
    return parse_object(_read(0, until), _WHAT)


def _read(descriptor: int, until: float) -> bytes:
    """All of a pipe or a file, within the deadline and the limit."""
    content = bytearray()
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while len(content) <= MAX_BYTES:
        if not ready.poll(process.seconds_left(until) * 1000):
            raise HookError(f"{_WHAT} did not end in time", code="CDG-X005")
        piece = os.read(descriptor, min(1 << 16, MAX_BYTES + 1 - len(content)))
        if not piece:
            return bytes(content)
        content += piece
    raise HookError(f"{_WHAT} is larger than {MAX_BYTES} bytes", code="CDG-K004")


def _not_the_bundle(started_in: int, bundle: str) -> int:
    here = os.fstat(started_in)
    try:
        there = os.stat(bundle)
    except PermissionError:
        return started_in
    if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
        raise HookError("config.json may not be read and the state has no 'root'", code="CDG-K004")
    return started_in


def _text(value: object, name: str, *, absolute: bool = False) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise HookError(f"'{name}' is not a path", code="CDG-K004")
    if absolute and not value.startswith("/"):
        raise HookError(f"'{name}' is not an absolute path: {shown(value)}", code="CDG-K004")
    return value


def bundle_of(state: dict[str, object]) -> int | None:
    """The bundle of a state, for steps that have a use for it; None if it cannot be entered."""
    try:
        return _open_directory(_text(state.get("bundle"), "bundle", absolute=True))
    except (HookError, PermissionError):
        return None


def _open_directory(path: str, within: int | None = None) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=within)
    except PermissionError:
        raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or os.strerror(errno.EINVAL)
        raise HookError(f"{shown(path)}: {reason}", code="CDG-K005") from None
