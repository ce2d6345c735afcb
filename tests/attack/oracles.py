# SPDX-License-Identifier: Apache-2.0
"""What must not have happened, whatever the image holds. Each oracle has a name and says so.

`HarmError` is what an oracle raises; the control (test_naive.py) expects it by that name, so that no
attack passes for another reason than the one it is about.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab import cache

Prints = dict[str, tuple[object, ...]]

MAX_SAID = 8192
MAX_MEMORY_KIB = 128 << 10
AFTER = 20.0
"""Seconds that a process may still take to go away after the hook has ended, on a busy machine."""

DOCUMENTED = re.compile(
    r"""(.*/)?(
        ld\.so\.cache | ld\.so\.conf | ld\.so\.conf\.d(/00-cdi-gen(-compat)?\.conf)? | ld-musl-\w+\.path
        | libcuda\.so(\.1)?
        | cdi-gen(/glibc(/[0-9a-f]+(/.*)?)?)? | cdi-gen/musl(/.*)?
        | nvidia | nvidia-application-profiles-rc\.d(/10-container\.conf)?
    )""",
    re.VERBOSE,
)
"""All that the steps of `Victim.FULL` may make in an image (hooks/README.md)."""


class HarmError(AssertionError):
    """An oracle has seen harm."""

    def __init__(self, oracle: str, what: object) -> None:
        super().__init__(f"{oracle}: {what}")
        self.oracle = oracle


def fingerprint(folder: Path) -> Prints:
    """All there is to know of a tree: kind and mode, owner, inode, content, and times.

    The two times are last; what cannot be opened safely (a pipe, a node) has no content.
    """
    known: Prints = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif not stat.S_ISDIR(status.st_mode):
            content = (status.st_rdev, status.st_size)
        known[os.fsdecode(bytes(path.relative_to(folder)))] = (
            stat.filemode(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_ino,
            content,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
    return known


def differences(before: Prints, after: Prints) -> set[str]:
    """The names that came, went or changed; a folder does not change by what is put into it."""
    changed = before.keys() ^ after.keys()
    for name in before.keys() & after.keys():
        one, other = before[name], after[name]
        if str(one[0]).startswith("d"):
            one, other = one[:4], other[:4]
        if one != other:
            changed |= {name}
    return changed


def sentinel(before: Prints, after: Prints, *, but_ctime: bool = False) -> None:
    """O-SENT: the host's folder beside the image is as it was, to its time stamps.

    Args:
        but_ctime: a file of it has another name in the image; that this name goes is no harm, and
            shows in ctime alone.
    """
    if but_ctime:
        before = {name: prints[:-1] for name, prints in before.items()}
        after = {name: prints[:-1] for name, prints in after.items()}
    if before != after:
        names = before.keys() | after.keys()
        touched = [name for name in names if before.get(name) != after.get(name)]
        raise HarmError("O-SENT", sorted(touched))


def documented(before: Prints, after: Prints, *, also: str | None = None) -> None:
    """O-DIFF: the image has changed where hooks/README.md says so, and nowhere else."""
    changed = differences(before, after)
    odd = {name for name in changed if not DOCUMENTED.fullmatch(name)}
    if also:
        odd = {name for name in odd if not re.fullmatch(also, name)}
    if odd:
        raise HarmError("O-DIFF", sorted(odd))


def nothing_copied(root: Path, secret: bytes) -> None:
    """O-COPY: what the container's user may not read is in no file of the image that everybody may."""
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file() or not path.stat().st_mode & stat.S_IROTH:
            continue
        if secret in path.read_bytes():
            raise HarmError("O-COPY", path.relative_to(root))


def said_in_lines(said: str, most: int) -> None:
    """O-OUT: at most 8 KiB and so many lines, each of ours, no traceback, nothing unprintable."""
    if len(said.encode()) > MAX_SAID:
        raise HarmError("O-OUT", f"{len(said)} characters on stderr")
    lines = said.splitlines()
    if len(lines) > most or "Traceback" in said or "internal error" in said:
        raise HarmError("O-OUT", said[-600:])
    for line in lines:
        if not line.isprintable() or not line.startswith("cdi-gen-hook: "):
            raise HarmError("O-OUT", line)


def in_time(seconds: float, most: float) -> None:
    """O-TIME: it has ended; `most` is a bound of the machine's, not a measurement."""
    if seconds > most:
        raise HarmError("O-TIME", f"{seconds:.1f} s, not {most}")


def in_memory(peak_kib: int) -> None:
    """O-MEM: at its largest it was below 128 MiB, with all that it started."""
    if not 0 < peak_kib <= MAX_MEMORY_KIB:
        raise HarmError("O-MEM", f"{peak_kib} KiB")


def same_mounts(before: str, after: str) -> None:
    """O-MNT: the mount table is as it was."""
    lines = changed_mounts(before, after)
    if lines:
        raise HarmError("O-MNT", lines)


def changed_mounts(before: str, after: str) -> list[str]:
    """The lines in which two tables of a mount namespace differ, except those that others remove.

    A new mount namespace has copies of all that is mounted on the machine. When a process outside
    removes a directory, Linux detaches every mount on it, in all namespaces; a bind mount of what
    was removed says so. Both happen at any time, wherever else a container ends.
    """
    old, new = _mounts(before), _mounts(after)
    gone = [old[number] for number in old.keys() - new.keys() if _still_there(old[number])]
    other = {
        line
        for number in old.keys() & new.keys()
        if old[number] != new[number].replace("//deleted ", " ", 1)
        for line in (old[number], new[number])
    }
    return sorted({*gone, *other, *(new[number] for number in new.keys() - old.keys())})


def _mounts(table: str) -> dict[str, str]:
    """The lines of a mountinfo by the number of the mount, without those of the lab's cache.

    Another test may build a root file system there and give it its name while it has mounts.
    """
    lines = (line.split(" ") for line in table.splitlines())
    built = f"{cache.home()}/"
    return {words[0]: " ".join(words) for words in lines if not words[4].startswith(built)}


def _still_there(line: str) -> bool:
    """Whether the mount point of a mount that is gone is still there."""
    point = line.split(" ")[4]
    return os.path.lexists(_OCTAL.sub(lambda found: chr(int(found[1], 8)), point))


_OCTAL = re.compile(r"\\([0-7]{3})")


_PR_SET_CHILD_SUBREAPER = 36


class Orphans:
    """What a program left running: it becomes a child of this process (`adopting`)."""

    def __init__(self) -> None:
        self._mine = _children()

    def none_left(self) -> None:
        """O-PROC: all that the program started has gone, soon after it."""
        until = time.monotonic() + AFTER
        while (left := _children() - self._mine) and time.monotonic() < until:
            for process in left:
                with suppress(ChildProcessError):
                    os.waitpid(process, os.WNOHANG)
            time.sleep(0.01)
        if left:
            names = [_command(process) for process in left]
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, 9)
                with suppress(ChildProcessError):
                    os.waitpid(process, 0)
            raise HarmError("O-PROC", names)


@contextmanager
def adopting() -> Iterator[Orphans]:
    """Become the parent of whatever loses its own, for as long as it takes."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield Orphans()
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _children() -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == os.getpid():
                    found.add(int(name))
    return found


def _command(process: int) -> str:
    try:
        line = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return str(process)
    return line.replace(b"\0", b" ").decode(errors="replace")
