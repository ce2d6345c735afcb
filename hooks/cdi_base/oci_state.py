# SPDX-License-Identifier: Apache-2.0
"""Where the container's root is: OCI state on stdin, then the bundle it names.

The state is the runtime's and config.json was written by root; they are read strictly all the same.
"""

from __future__ import annotations

# What `json` runs underneath; `json` itself costs 6 ms, for its regular expressions.
import _json
import errno
import os
import select

from cdi_base import files, process, trust
from cdi_base.errors import HookError, shown

MAX_STATE = 1 << 20
MAX_CONFIG = 8 << 20
"""Linux gives a program 6 MiB of arguments and environment at most (fs/exec.c)."""
MAX_VALUES = 500_000
"""Of a config.json: texts, commas and brackets. Each value takes up to 300 bytes of memory."""
MAX_VARIABLES = 4096
"""Of those that are read."""
_BOM = b"\xef\xbb\xbf"


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
        config = _read_config(bundle, until)
    except PermissionError:
        if started_in is None:
            raise
        return _not_the_bundle(started_in, bundle_path), None
    section = parse_config(config, "config.json").get("root")
    if not isinstance(section, dict):
        raise HookError("config.json has no 'root'", code="CDG-K004")
    return _open_directory(_text(section.get("path"), "root.path"), bundle), bundle


def of_stdin(until: float) -> dict[str, object]:
    """The OCI state on standard input.

    Raises:
        HookError: it is none, is larger than 1 MiB, or does not end in time.
    """
    return parse_object(_read(0, MAX_STATE, until, "the state on stdin"), "the state on stdin")


def environment(bundle: int, until: float, names: tuple[str, ...]) -> dict[str, str]:
    """The environment of the container's process, by the bundle's config.json.

    Args:
        bundle: a descriptor of it.
        until: the deadline.
        names: how the entries begin that are wanted.

    Raises:
        OSError: config.json is not there, or may not be read.
        HookError: it is not what the OCI runtime specification says.
    """
    section = parse_config(_read_config(bundle, until), "config.json").get("process")
    entries = (section.get("env") or []) if isinstance(section, dict) else []
    if not isinstance(entries, list) or not all(isinstance(each, str) for each in entries):
        raise HookError("'process.env' of config.json is no list of texts", code="CDG-K004")
    return variables(entries, names)


def is_read_only(bundle: int, until: float) -> bool:
    """Whether the bundle's config.json asks for a root that the container cannot write to.

    Raises:
        OSError: config.json is not there, or may not be read.
        HookError: it is not what the OCI runtime specification says.
    """
    section = parse_config(_read_config(bundle, until), "config.json").get("root")
    return isinstance(section, dict) and section.get("readonly") is True


def variables(entries: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """Variables of `process.env`, as the container's process sees them.

    Of several entries of one name the last counts, as in runc (libcontainer, `prepareEnv`; before
    1.3 by `os.Setenv`), crun (`putenv`) and runsc, and so in NVIDIA's programs. dockerd appends
    what `--gpus` says to the image's own ENV, kubelet what a device plugin says to a pod's.

    Args:
        entries: `NAME=VALUE`; what has another form is no variable.
        names: how the entries begin that are wanted; all else is the image's, and may be anything.

    Raises:
        HookError: there are more of them than any image has.
    """
    found: dict[str, str] = {}
    for entry in reversed(entries):
        if entry.startswith(names):
            name, equals, value = entry.partition("=")
            if equals and name not in found:
                found[name] = value
                if len(found) > MAX_VARIABLES:
                    raise HookError(
                        f"'process.env' has more than {MAX_VARIABLES} NVIDIA_REQUIRE_*",
                        code="CDG-R802",
                    )
    return found


def parse_config(content: bytes, what: str) -> dict[str, object]:
    """The JSON object that a config.json is, within bounds: an image has written parts of it.

    Raises:
        HookError: it is something else, or larger than what any container needs.
    """
    # At most that many; counting takes 1 ms a MiB, and parsing them 100 MiB of memory.
    if content.count(b'"') // 2 + sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise HookError(
            f"{what} has more than {MAX_VALUES} texts, commas and brackets", code="CDG-K004"
        )
    return parse_object(content, what)


def parse_object(content: bytes, what: str) -> dict[str, object]:
    """A JSON object; stricter than Python: UTF-8, no NaN, no name twice.

    Raises:
        HookError: it is something else.
    """
    try:
        # Not "utf-8-sig": Python would import it now.
        text = content.removeprefix(_BOM).decode()
        start = len(text) - len(text.lstrip(" \t\r\n"))
        value, end = _scan(text, start)
    except (ValueError, StopIteration, RecursionError, SystemError):
        # Before Python 3.13 the scanner takes its error from `json.decoder` and has none without.
        raise HookError(f"{what} is not JSON", code="CDG-K004") from None
    if text[end:].strip(" \t\r\n") or not isinstance(value, dict):
        raise HookError(f"{what} is not one JSON object", code="CDG-K004")
    return value


class _Rules:
    """What the scanner asks of a decoder."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012  (part of the scanner's interface)

    @staticmethod
    def object_pairs_hook(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a name twice in one object")
        return made

    @staticmethod
    def parse_constant(name: str) -> object:
        raise ValueError(name)


# It only reads the attributes.
_scan = _json.make_scanner(_Rules)  # type: ignore[arg-type]


def _read(descriptor: int, limit: int, until: float, what: str) -> bytes:
    """All of a pipe or a file, within the deadline and the limit."""
    content = bytearray()
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while len(content) <= limit:
        if not ready.poll(process.seconds_left(until) * 1000):
            raise HookError(f"{what} did not end in time", code="CDG-X005")
        piece = os.read(descriptor, min(1 << 16, limit + 1 - len(content)))
        if not piece:
            return bytes(content)
        content += piece
    raise HookError(f"{what} is larger than {limit} bytes", code="CDG-K004")


def _read_config(bundle: int, until: float) -> bytes:
    try:
        descriptor = files.open_regular("config.json", directory=bundle)
    except files.NotRegularError:
        raise HookError("config.json is not a regular file", code="CDG-K004") from None
    try:
        owner = os.fstat(descriptor).st_uid
        # In a user namespace it is the engine's user's, who may be anybody there: with Podman's
        # --userns=keep-id the user of the same number, and not the root whom the hook runs as.
        if not trust.is_trusted_owner(owner) and trust.in_first_user_namespace():
            raise HookError(
                f"config.json belongs to user {owner}, not to root or the hook's user",
                code="CDG-K004",
            )
        return _read(descriptor, MAX_CONFIG, until, "config.json")
    finally:
        os.close(descriptor)


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
