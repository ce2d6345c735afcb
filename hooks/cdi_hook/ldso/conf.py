# SPDX-License-Identifier: Apache-2.0
"""The directories an image tells its loader of: etc/ld.so.conf and what it includes.

ldconfig never sees these files: on a pipe it would wait for ever, on a sparse file of 6 GiB too.
"""

from __future__ import annotations

import errno
import os

from cdi_base.errors import HookError, SkippedError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.rootfs import RootFs

CONF = "/etc/ld.so.conf"
CONF_DIR = "/etc/ld.so.conf.d"
COMPAT = f"{CONF_DIR}/00-cdi-gen-compat.conf"
"""The drop-in of enable-cuda-compat; it sorts before that of update-ldcache."""

OUR_INCLUDE = f"include {CONF_DIR}/00-cdi-gen*.conf\n".encode()

MAX_FILE = 64 << 10
MAX_TOTAL = 1 << 20
MAX_FILES = 512
MAX_DEPTH = 8
MAX_DIRECTORIES = 1024
MAX_PATTERN_STEPS = 10_000


def directories(rootfs: RootFs, *, but: str) -> list[str] | None:
    """What etc/ld.so.conf lists, in its order, each once; None if the image has no such file.

    Args:
        rootfs: the container's root.
        but: the path of an included file that is not read (our own).

    Raises:
        HookError: the image lists more than any loader should have to look at.
        OSError: etc/ld.so.conf itself is not a regular file of at most 64 KiB; EXDEV if a link
            leads out of the root's own mount.
    """
    reader = _Reader(rootfs, but)
    if rootfs.status(CONF) is None:
        return None
    reader.parse(CONF, rootfs.read_in_place(CONF, MAX_FILE), 1)
    return list(reader.found)


def include_first(rootfs: RootFs, path: str) -> None:
    """See to it that etc/ld.so.conf reads a file in `CONF_DIR` before all that it lists itself.

    Distributions include that folder first. SUSE's has two folders before it, and a Dockerfile that
    says `echo /opt/lib > /etc/ld.so.conf` leaves nothing that reads it.
    """
    try:
        content = rootfs.read(CONF, MAX_FILE, world_readable=True)
    except (OSError, SkippedError):
        # It was read a moment ago, so it is mounted there or not for everybody: not ours to copy.
        return
    new = OUR_INCLUDE + content
    if len(new) <= MAX_FILE and not _is_first(rootfs, path, os.fsdecode(content)):
        rootfs.put(CONF, new)


def _is_first(rootfs: RootFs, path: str, text: str) -> bool:
    for raw in text.split("\n"):
        words = raw.partition("#")[0].split()
        if words[:1] == ["include"]:
            pattern = words[1] if len(words) > 1 else ""
            found = _matching(rootfs, pattern if pattern.startswith("/") else f"/etc/{pattern}")
            return path in [each for each in found if each != COMPAT][:1]
        if words:
            return False
    return False


def directories_of(rootfs: RootFs, path: str) -> list[str]:
    """What one file of ours lists; none if it is not there, or not as we write it."""
    try:
        content = rootfs.read(path, MAX_FILE)
    except OSError as error:
        if error.errno in _UNREADABLE:
            return []
        raise
    lines = os.fsdecode(content).split("\n")
    return [line for line in lines if line.startswith("/")][:MAX_DIRECTORIES]


class _Reader:
    """One reading of the configuration, with what it has cost so far."""

    def __init__(self, rootfs: RootFs, but: str) -> None:
        self._rootfs = rootfs
        self._seen = {CONF, but}
        self._total = 0
        self.found: dict[str, None] = {}

    def parse(self, path: str, content: bytes, depth: int) -> None:
        self._total += len(content)
        if self._total > MAX_TOTAL:
            raise HookError(
                f"{CONF} and what it includes is larger than {MAX_TOTAL} bytes", code="CDG-K008"
            )
        for raw in content.split(b"\n"):
            line = os.fsdecode(raw.partition(b"#")[0]).strip(" \t\r\f\v")
            word, _, patterns = line.replace("\t", " ").partition(" ")
            if word == "include" and patterns:
                for pattern in patterns.split():
                    self._include(path, pattern, depth + 1)
            elif line.startswith("/") and "\0" not in line:
                self.found[line] = None
        if len(self.found) > MAX_DIRECTORIES:
            raise HookError(
                f"{CONF} lists more than {MAX_DIRECTORIES} directories", code="CDG-K008"
            )

    def _include(self, by: str, pattern: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            return
        if not pattern.startswith("/"):
            pattern = f"{by.rpartition('/')[0]}/{pattern}"
        for path in _matching(self._rootfs, pattern):
            if path in self._seen:
                continue
            self._seen.add(path)
            if len(self._seen) > MAX_FILES:
                raise HookError(f"{CONF} includes more than {MAX_FILES} files", code="CDG-K008")
            try:
                content = self._content(path)
            except OSError as error:
                # What ldconfig could not read it would pass over too. A pipe is no regular file.
                if error.errno in _UNREADABLE:
                    continue
                raise
            self.parse(path, content, depth)

    def _content(self, path: str) -> bytes:
        """What it lists may end in the cache; a ConfigMap's file in CONF_DIR is for just that."""
        if path.rpartition("/")[0] == CONF_DIR:
            return self._rootfs.read_in_place(path, MAX_FILE)
        return self._rootfs.read(path, MAX_FILE)


_UNREADABLE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EINVAL,
        errno.EFBIG,
        errno.EACCES,
        errno.ENAMETOOLONG,
        errno.EXDEV,
    }
)


def _matching(rootfs: RootFs, pattern: str) -> list[str]:
    """The files of a pattern. Only the last name may hold `*` or `?`: no image says more."""
    folder, _, last = pattern.rpartition("/")
    if not set(last) & set("*?"):
        return [pattern]
    try:
        names = rootfs.names(folder)
    except OSError as error:
        if error.errno in _UNREADABLE:
            return []
        raise
    found: list[str] = []
    for name in names:
        if _matches(name, last):
            found.append(f"{folder}/{name}")
            if len(found) > MAX_FILES:
                raise HookError(f"{CONF} includes more than {MAX_FILES} files", code="CDG-K008")
    return found


def _matches(name: str, pattern: str) -> bool:
    """A shell pattern of `*` and `?`; a leading dot is matched by a dot alone."""
    if name.startswith(".") and not pattern.startswith("."):
        return False
    at = after_star = 0
    star = -1
    here = steps = 0
    while at < len(name):
        steps += 1
        if steps > MAX_PATTERN_STEPS:
            raise HookError(f"{CONF}: the pattern {shown(pattern)} takes too long", code="CDG-K008")
        if here < len(pattern) and pattern[here] == "*":
            star, after_star = here, at
            here += 1
        elif here < len(pattern) and pattern[here] in {"?", name[at]}:
            here += 1
            at += 1
        elif star >= 0:
            after_star += 1
            at, here = after_star, star + 1
        else:
            return False
    return not pattern[here:].strip("*")
