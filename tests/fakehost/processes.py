# SPDX-License-Identifier: Apache-2.0
"""Processes and containers in the ``/proc`` of a fake host, which tests start, change and end.

A directory that was removed is kept aside, so that no later one gets its inode number: the kernel
does not give two processes the same one either.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

HOST_NAMESPACE = 4026531841
HOST_USERS = "user:[4026531837]"
FIRST_NAMESPACE = 4026532100


class Processes:
    """The processes of a host; process 1 exists from the beginning.

    Args:
        host: the root directory of the host.
    """

    def __init__(self, host: Path) -> None:
        self._host = host
        self._proc = host / "proc"
        self._ended = host / "ended"
        self._ended.mkdir(parents=True)
        self._clock = 1000
        self._root_count = 0
        self._roots: dict[int, Path] = {HOST_NAMESPACE: host}
        self.running: dict[int, int] = {}
        """The mount namespace of each process."""
        (self._proc / "self").mkdir(parents=True, exist_ok=True)
        (self._proc / "self/status").write_text("Name:\tpython\nNSpid:\t77\n")
        self.start(1, name="init")

    def start(
        self,
        pid: int,
        *,
        name: str = "sleep",
        parent: int = 1,
        namespace: int = HOST_NAMESPACE,
        group: str = "/",
        start_time: int | None = None,
    ) -> None:
        """Start a process; its number must be free."""
        self._clock += 1
        directory = self._proc / str(pid)
        (directory / "ns").mkdir(parents=True)
        self.running[pid] = namespace
        start = self._clock if start_time is None else start_time
        (directory / "start").write_text(str(start))
        self.change(pid, name=name, parent=parent)
        self.move(pid, group)
        self.enter(pid, namespace)
        (directory / "ns/user").symlink_to(HOST_USERS)
        (directory / "cmdline").write_text(f"{name}\0")

    def change(self, pid: int, *, name: str, parent: int) -> None:
        """Give a process another name, as by ``exec``, or another parent."""
        directory = self._proc / str(pid)
        start = (directory / "start").read_text()
        fields = ["S", str(parent), *["0"] * 17, start, *["0"] * 30]
        (directory / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")

    def move(self, pid: int, group: str) -> None:
        """Move a process to another control group."""
        (self._proc / str(pid) / "cgroup").write_text(f"0::{group}\n")

    def enter(self, pid: int, namespace: int) -> None:
        """Move a process to another mount namespace."""
        directory = self._proc / str(pid)
        root = self._roots[namespace]
        for name, target in (("ns/mnt", f"mnt:[{namespace}]"), ("root", str(root))):
            (directory / name).unlink(missing_ok=True)
            (directory / name).symlink_to(target)
        in_mount = "/" if root == self._host else f"/{root.name}"
        table = f"{_mount_id(root)} 1 8:1 {in_mount} / rw - ext4 /dev/sda rw\n"
        (directory / "mountinfo").write_text(table)
        self.running[pid] = namespace

    def end(self, pid: int) -> None:
        """End a process; its children get process 1 as their parent."""
        del self.running[pid]
        os.rename(self._proc / str(pid), self._ended / f"{pid}-{len(os.listdir(self._ended))}")
        for other in self.running:
            text = (self._proc / str(other) / "stat").read_text()
            name, fields = text.partition("(")[2].rpartition(") ")[::2]
            if fields.split()[1] == str(pid):
                self.change(other, name=name, parent=1)

    def namespace(self, *nodes: tuple[str, int, int]) -> int:
        """Return a new mount namespace with a root of its own.

        It has the lowest number that no running process has, as the kernel numbers them.

        Args:
            nodes: name, major and minor of the character devices in its /dev.
        """
        used = set(self.running.values())
        number = next(n for n in itertools.count(FIRST_NAMESPACE) if n not in used)
        self._root_count += 1
        root = self._host / f"container-{self._root_count}"
        (root / "dev").mkdir(parents=True)
        self._roots[number] = root
        for node in nodes:
            self.make_node(number, *node)
        return number

    def make_node(self, namespace: int, name: str, major: int, minor: int) -> None:
        """Create a character device in /dev of a mount namespace."""
        path = self._roots[namespace] / "dev" / name
        path.parent.mkdir(exist_ok=True)
        os.mknod(path, 0o20666, os.makedev(major, minor))

    def toggle_node(self, namespace: int, name: str, major: int, minor: int) -> None:
        """Remove a device, or create it."""
        path = self._roots[namespace] / "dev" / name
        if path.exists():
            path.unlink()
        else:
            self.make_node(namespace, name, major, minor)


def _mount_id(path: Path) -> str:
    descriptor = os.open(path, os.O_PATH)
    try:
        text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
    return text.partition("mnt_id:")[2].partition("\n")[0].strip()
