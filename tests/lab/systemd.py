# SPDX-License-Identifier: Apache-2.0
"""Boots systemd in namespaces of its own, on a root of the lab: ``Booted``.

The root is an overlay, so that a test may change any file of it, and each boot begins with the
same root. Nothing of the machine is seen but its kernel.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.lab.cache import LabUnavailableError

PATIENCE = 120

_BOOT = """
mount --make-rprivate /
mount -t overlay -o lowerdir={lower},upperdir={work}/upper,workdir={work}/work none {work}/root
cd {work}/root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mknod -m 666 dev/null c 1 3; mknod -m 666 dev/zero c 1 5; mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8; mknod -m 666 dev/urandom c 1 9; mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=1777 none tmp
{prepare}
mkdir -p .machine
pivot_root . .machine
cd /
umount -l /.machine
exec env -i container=lab PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd --show-status=no --log-target=null
"""


class Booted:
    """A booted systemd, and commands where it is."""

    def __init__(self, first: int, root: Path) -> None:
        self.first = first
        self.root = root
        """The root directory, from outside."""

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        enter = ["nsenter", "-t", str(self.first), "-m", "-p", "-C", "-u", "-n", "-i"]
        return subprocess.run(
            [*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin", *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check, timeout=PATIENCE,
        )  # fmt: skip

    def sh(self, script: str, *words: str) -> str:
        """Run a script inside; return its output."""
        return self.run("sh", "-ec", script, "sh", *words).stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit."""
        options = [f"--property={name}" for name in properties]
        lines = self.run("systemctl", "show", *options, unit).stdout.splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    def wait_until_booted(self) -> None:
        """Wait until no job of the boot is left."""
        self.run("systemctl", "is-system-running", "--wait", check=False)


@contextlib.contextmanager
def boot(
    lower: Path, work: Path, files: Mapping[str, str], *, prepare: str = ""
) -> Iterator[Booted]:
    """Boot a root of the lab; every process of it ends with the block.

    Args:
        lower: the root.
        work: an empty directory, which gets what the boot writes.
        files: texts of files by path, ``/etc/…``, which the root has in addition; with a ``#!``
            they are programs.
        prepare: a script of the shell that runs in the root's directory, before systemd does.

    Raises:
        LabUnavailableError: systemd does not start in namespaces here.
    """
    for name in ("upper", "work", "root"):
        (work / name).mkdir(parents=True)
    for path, text in files.items():
        file = work / "upper" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)
    group = new_group()
    script = _BOOT.format(
        lower=shlex.quote(str(lower)), work=shlex.quote(str(work)), prepare=prepare
    )
    outside = (
        f"echo $$ >{group}/cgroup.procs; "
        'exec unshare -m -p -f -C -u -n -i --kill-child=KILL sh -ec "$1"'
    )
    log = work / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["sh", "-ec", outside, "sh", script],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            first = first_process(process)
            if first is None:
                reason = log.read_text(errors="replace").strip()
                raise LabUnavailableError(f"systemd does not start in a namespace here: {reason}")
            yield Booted(first, Path(f"/proc/{first}/root"))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            remove_group(group)


def new_group() -> Path:
    """A group of version 2: what systemd does to its own, it does to nothing of the machine's.

    Raises:
        LabUnavailableError: the machine has none, or none can be made.
    """
    for tree in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        if (tree / "cgroup.procs").exists():
            group = tree / f"cdi-gen-test-{os.getpid()}-{os.urandom(4).hex()}"
            try:
                group.mkdir()
            except OSError as error:
                raise LabUnavailableError(f"no control group can be made: {error}") from error
            return group
    raise LabUnavailableError("this machine has no control groups of version 2")


def remove_group(group: Path) -> None:
    """Remove a group when the last of its processes is gone, which takes a moment."""
    until = time.monotonic() + PATIENCE
    while group.exists() and time.monotonic() < until:
        for folder in [*sorted(group.rglob("*/"), reverse=True), group]:
            with contextlib.suppress(OSError):
                folder.rmdir()
        time.sleep(0.01)


def first_process(outside: subprocess.Popen[bytes]) -> int | None:
    """The id of systemd on the machine, as soon as it answers; None if it ends before."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and outside.poll() is None:
        children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
        if children:
            system = Booted(int(children[0]), Path("/"))
            if system.run("systemctl", "show", "--property=Version", check=False).returncode == 0:
                return system.first
        time.sleep(0.05)
    return None
