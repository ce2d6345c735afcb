# SPDX-License-Identifier: Apache-2.0
"""Reads the OCI state that a runtime gives a hook, and finds the container's root.

The runtime writes the state, and root writes config.json; nevertheless both are read strictly.
"""

from __future__ import annotations

import errno
import os
import select

from cdi_base import files, oci_config, process
from cdi_base.errors import HookError, shown
from cdi_base.strict_json import parse_object

MAX_BYTES = 1 << 20
_STATE = "the state on stdin"


def open_root(started_in: int | None, until: float) -> tuple[int, int | None]:
    """Return `O_PATH` descriptors of the container's root directory and of the bundle.

    The root is the first of these; the first two may be relative to the bundle:

    1. `root` of the state, which crun copies from config.json.
    2. `root.path` of the bundle's config.json.
    3. The directory that the hook was started in, if this process may not read config.json. In a
       user namespace (Docker's `userns-remap`) config.json belongs to the host's root, and runc
       starts hooks in the container's root.

    The bundle is None if the state does not name one that this process can enter.

    Raises:
        HookError: the state or config.json does not follow the OCI runtime specification.
    """
    state = read_stdin(until)
    root = state.get("root")
    if isinstance(root, str) and root.startswith("/"):
        return _open_directory(_text(root, "root")), open_bundle(state)
    bundle_path = _text(state.get("bundle"), "bundle", absolute=True)
    try:
        bundle = _open_directory(bundle_path)
        if root is not None:
            return _open_directory(_text(root, "root"), bundle), bundle
        config = oci_config.read(bundle)
    except PermissionError:
        if started_in is None:
            raise
        return _checked_start(started_in, bundle_path), None
    section = config.get("root")
    if not isinstance(section, dict):
        raise HookError("config.json has no 'root'", code="CDG-K004")
    return _open_directory(_text(section.get("path"), "root.path"), bundle), bundle


def read_stdin(until: float) -> dict[str, object]:
    """Return the OCI state on standard input.

    Raises:
        HookError: the input is not an OCI state, is larger than 1 MiB, or does not end in time.
    """
    return parse_object(_read(0, until), _STATE)


def _read(descriptor: int, until: float) -> bytes:
    """Return the content of a pipe or a file, within the deadline and the limit."""
    content = bytearray()
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while len(content) <= MAX_BYTES:
        if not ready.poll(process.seconds_left(until) * 1000):
            raise HookError(f"{_STATE} did not end in time", code="CDG-X005")
        piece = os.read(descriptor, min(1 << 16, MAX_BYTES + 1 - len(content)))
        if not piece:
            return bytes(content)
        content += piece
    raise HookError(f"{_STATE} is larger than {MAX_BYTES} bytes", code="CDG-K004")


def _checked_start(started_in: int, bundle: str) -> int:
    start_status = os.fstat(started_in)
    try:
        bundle_status = os.stat(bundle)
    except PermissionError:
        return started_in
    if files.same_file(start_status, bundle_status):
        raise HookError("no permission to read config.json, and no 'root'", code="CDG-K004")
    return started_in


def _text(value: object, name: str, *, absolute: bool = False) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise HookError(f"'{name}' is not a path", code="CDG-K004")
    if absolute and not value.startswith("/"):
        raise HookError(f"'{name}' is not an absolute path: {shown(value)}", code="CDG-K004")
    return value


def open_bundle(state: dict[str, object]) -> int | None:
    """Return a descriptor of the bundle that a state names; None if it cannot be entered."""
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
