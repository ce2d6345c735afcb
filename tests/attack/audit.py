# SPDX-License-Identifier: Apache-2.0
"""What strace saw of a hook: which programs it ran, where it wrote, what it opened.

With `-y` strace says of each descriptor which file the kernel has for it, so a path is judged by
where it led and not by how it was spelt.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.attack.oracles import HarmError
from tests.hook.conftest import HOOKS

_OPENING = ("open", "openat", "openat2", "creat")
_RUNNING = ("execve", "execveat")
_CHANGING = (
    "mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat", "link", "linkat", "rename",
    "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "chmod", "fchmodat", "chown", "lchown",
    "fchownat", "truncate", "utimensat", "setxattr", "lsetxattr", "removexattr",
)  # fmt: skip
_MOUNTING = ("mount", "umount2", "move_mount", "pivot_root", "chroot", "swapon", "setns")
_TALKING = ("connect", "bind")

CALLS = "trace=" + ",".join(
    f"?{call}" for call in (*_OPENING, *_RUNNING, *_CHANGING, *_MOUNTING, *_TALKING)
)

_LINE = re.compile(r"(?P<pid>\d+)\s+(?P<call>\w+)\((?P<rest>.*)")
_RESULT = re.compile(r"(?P<words>.*)\)\s+= (?P<value>-?\d+|\?)(?:<(?P<place>.*)>)?(?P<why>.*)")
_RESUMED = re.compile(r"(?P<pid>\d+)\s+<\.\.\. \w+ resumed>(?P<rest>.*)")
_UNFINISHED = " <unfinished ...>"
_NAMED = re.compile(r'(?:AT_FDCWD|\d+)<(?P<folder>(?:[^>\\]|\\.)*)>, "(?P<name>(?:[^"\\]|\\.)*)"')
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')

_WRITING = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|TMPFILE)")

READABLE = re.compile(
    r"/(usr/|usr/local/)?(bin|sbin|lib|lib64)(/.*)? | /etc/(ld\.so\.cache|locale\.alias)"
    r"| /proc/(self|\d+)(/.*)? | /proc/driver/nvidia/.* | /proc/sys/.* | /dev/null | / | /etc/nvidia/.*",
    re.VERBOSE,
)
"""Of the host: the interpreter, its library and the loader, itself, the driver's parameters."""


class Call(NamedTuple):
    """One system call: its arguments as strace writes them, its result, where a descriptor leads."""

    process: str
    name: str
    words: str
    value: str
    place: str | None

    @property
    def done(self) -> bool:
        return not self.value.startswith("-") and self.value != "?"

    def names(self) -> Iterator[tuple[str, str]]:
        """Each (folder, name) that is acted on."""
        pairs = [(each["folder"], each["name"]) for each in _NAMED.finditer(self.words)]
        if pairs:
            yield from pairs
            return
        texts = _TEXT.findall(self.words)
        if self.name == "symlink":
            texts = texts[1:]
        yield from (("", text) for text in texts[:2])


class Audit:
    """One trace, and the root that the traced hook was told of."""

    def __init__(self, trace: str, root: Path) -> None:
        self.root = str(root)
        self.bundle = str(root.parent)
        self.calls = list(_calls(trace))
        assert self.calls, "strace saw nothing"
        self._hook = self.calls[0].process

    def executed(self, *, ldconfig: bool = False) -> None:
        """O-EXEC: nothing but the hook itself; or the sealed copy of ldconfig, if that is asked for."""
        runs = [call for call in self.calls if call.name in _RUNNING]
        odd = runs[1:]
        if ldconfig:
            odd = [call for call in odd if "</memfd:ldconfig" not in call.words]
        if odd or not runs[0].done:
            raise HarmError("O-EXEC", [f"{call.name}({call.words}" for call in odd])

    def written(self, *, ldconfig: bool = False) -> None:
        """O-OPEN: nothing is made, changed, removed, mounted or talked to outside of the root.

        What ldconfig does in its own namespaces is not judged here (tests/hook/test_sandbox.py has
        it); the hook's part is its configuration, in a tmpfs that is attached nowhere.
        """
        for call in self.calls:
            if ldconfig and (call.process != self._hook or call.place == "/conf"):
                continue
            if call.name in (*_MOUNTING, *_TALKING):
                raise HarmError("O-OPEN", f"{call.name}({call.words}")
            if not call.done:
                continue
            if call.name in _OPENING and _WRITING.search(call.words):
                places = [call.place or ""]
            elif call.name in _CHANGING:
                places = [_place(folder, name) for folder, name in call.names()]
            else:
                continue
            for place in places:
                if not (self._inside(place) or place.startswith("/dev/null")):
                    raise HarmError("O-OPEN", f"writes to {place}: {call.name}({call.words}")

    def opened(self, *, ldconfig: bool = False) -> None:
        """O-OPEN: no pipe, socket or node of the image is opened for more than a look."""
        for call, place in self._openings(ldconfig=ldconfig):
            if self._inside(place):
                self._opened_in_the_image(place, call)

    def read(self, *, ldconfig: bool = False) -> None:
        """O-OPEN: of the host nothing is opened but what is READABLE, and the hook's own modules."""
        for call, place in self._openings(ldconfig=ldconfig):
            if call.done and not self._inside(place) and not self._may_be_read(place):
                raise HarmError("O-OPEN", f"reads {place}")

    def kept_away_from(self, folder: Path) -> None:
        """O-READ: nothing below a folder of the image is opened for more than a look."""
        for call, place in self._openings(ldconfig=False):
            if place == str(folder) or place.startswith(f"{folder}/"):
                raise HarmError("O-READ", f"opens {place}: {call.name}({call.words}")

    def _openings(self, *, ldconfig: bool) -> Iterator[tuple[Call, str]]:
        for call in self.calls:
            if call.name not in _OPENING or "O_PATH" in call.words:
                continue
            if ldconfig and (call.process != self._hook or call.place in {"/conf", "/cache"}):
                continue
            places = [call.place] if call.place else [_place(*pair) for pair in call.names()]
            for place in places:
                yield call, place

    def _opened_in_the_image(self, place: str, call: Call) -> None:
        try:
            mode = os.lstat(place).st_mode
            if stat.S_ISLNK(mode) and "O_NOFOLLOW" not in call.words:
                mode = os.stat(place).st_mode
        except OSError:
            return
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise HarmError("O-OPEN", f"opens {stat.filemode(mode)} {place}")

    def _inside(self, place: str) -> bool:
        return place == self.root or place.startswith(f"{self.root}/")

    def _may_be_read(self, place: str) -> bool:
        if READABLE.fullmatch(place.partition("<")[0]):
            return True
        own = (str(HOOKS), sys.base_prefix, self.bundle)
        return any(place == folder or place.startswith(f"{folder}/") for folder in own)


def _place(folder: str, name: str) -> str:
    """Where a name lies: its folder's links followed, its own not."""
    path = name if name.startswith("/") else f"{folder}/{name}"
    above, _, last = path.rpartition("/")
    return f"{os.path.realpath(above or '/')}/{last}"


def _calls(trace: str) -> Iterator[Call]:
    waiting: dict[str, tuple[str, str]] = {}
    for line in trace.splitlines():
        process = line.partition(" ")[0]
        if resumed := _RESUMED.fullmatch(line):
            name, begun = waiting.pop(resumed["pid"], ("", ""))
            rest = begun + resumed["rest"]
        elif started := _LINE.fullmatch(line):
            name, rest = started["call"], started["rest"]
            if rest.endswith(_UNFINISHED):
                waiting[started["pid"]] = (name, rest.removesuffix(_UNFINISHED))
                continue
            waiting.pop(started["pid"], None)
        else:
            continue
        if name and (ended := _RESULT.fullmatch(rest)):
            yield Call(process, name, ended["words"], ended["value"], ended["place"])
    # What it was killed in, a pipe that nobody writes to for instance.
    for process, (name, begun) in waiting.items():
        yield Call(process, name, begun, "?", None)
