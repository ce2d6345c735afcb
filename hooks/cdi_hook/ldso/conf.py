# SPDX-License-Identifier: Apache-2.0
"""Reads etc/ld.so.conf of an image, and the files that it includes.

ldconfig does not read these files, because it would not end for a pipe or a sparse file of 6 GiB.
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


def directories(rootfs: RootFs, *, excluded: str) -> list[str] | None:
    """Return the directories in etc/ld.so.conf, in order, each once; None without this file.

    Args:
        rootfs: the container's root.
        excluded: the path of an included file that is not read: our own.

    Raises:
        HookError: the image lists more than the limits allow.
        OSError: etc/ld.so.conf itself is not a regular file of at most 64 KiB; EXDEV if a link
            leads out of the root's own mount.
    """
    reader = _Reader(rootfs, excluded)
    if rootfs.status(CONF) is None:
        return None
    reader.parse(CONF, rootfs.read_in_place(CONF, MAX_FILE), 1)
    return list(reader.directories)


def include_first(rootfs: RootFs, path: str) -> None:
    """Change etc/ld.so.conf to include a file in `CONF_DIR` before all others, if needed.

    Most distributions include `CONF_DIR` first. SUSE lists two directories before it, and after
    `echo /opt/lib > /etc/ld.so.conf` in a Dockerfile the file does not include `CONF_DIR`.
    """
    try:
        content = rootfs.read(CONF, MAX_FILE, world_readable=True)
    except (OSError, SkippedError):
        # The file was readable before, so it is mounted here or not world-readable: not copied.
        return
    new = OUR_INCLUDE + content
    if len(new) <= MAX_FILE and not _is_first(rootfs, path, os.fsdecode(content)):
        rootfs.put(CONF, new)


def _is_first(rootfs: RootFs, path: str, text: str) -> bool:
    for raw in text.split("\n"):
        words = raw.partition("#")[0].split()
        if words[:1] == ["include"]:
            pattern = words[1] if len(words) > 1 else ""
            files = _matching(rootfs, pattern if pattern.startswith("/") else f"/etc/{pattern}")
            return path in [file for file in files if file != COMPAT][:1]
        if words:
            return False
    return False


def directories_of(rootfs: RootFs, path: str) -> list[str]:
    """Return the directories in a file of cdi-gen; none if the file is missing or unreadable."""
    try:
        content = rootfs.read(path, MAX_FILE)
    except OSError as error:
        if error.errno in _UNREADABLE:
            return []
        raise
    lines = os.fsdecode(content).split("\n")
    return [line for line in lines if line.startswith("/")][:MAX_DIRECTORIES]


class _Reader:
    """One pass over the configuration, which counts what it reads."""

    def __init__(self, rootfs: RootFs, excluded: str) -> None:
        self._rootfs = rootfs
        self._seen = {CONF, excluded}
        self._total = 0
        self.directories: dict[str, None] = {}

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
                self.directories[line] = None
        if len(self.directories) > MAX_DIRECTORIES:
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
                # ldconfig ignores unreadable files too. EINVAL is a pipe, for example.
                if error.errno in _UNREADABLE:
                    continue
                raise
            self.parse(path, content, depth)

    def _content(self, path: str) -> bytes:
        """Read an included file; one in CONF_DIR may be a mount, for example of a ConfigMap."""
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
    """Return the files of a pattern; only its last component may have `*` or `?`."""
    folder, _, last = pattern.rpartition("/")
    if not set(last) & set("*?"):
        return [pattern]
    try:
        names = rootfs.names(folder)
    except OSError as error:
        if error.errno in _UNREADABLE:
            return []
        raise
    files: list[str] = []
    for name in names:
        if _matches(name, last):
            files.append(f"{folder}/{name}")
            if len(files) > MAX_FILES:
                raise HookError(f"{CONF} includes more than {MAX_FILES} files", code="CDG-K008")
    return files


def _matches(name: str, pattern: str) -> bool:
    """Whether a name matches a shell pattern of `*` and `?`; only a dot matches a leading dot."""
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
