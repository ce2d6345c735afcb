# SPDX-License-Identifier: Apache-2.0
"""A container under attack, and one run of a hook on it with everything an oracle wants to know."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack import oracles
from tests.attack.audit import CALLS, Audit
from tests.attack.oracles import HarmError, Orphans, Prints
from tests.hook.conftest import ENVIRONMENT, PYTHON, Container

Library = Callable[[Path, str], None]
"""Puts a shared library with a SONAME at a path."""

NAIVE = Path(__file__).with_name("naive_hook.py")

DEADLINE = 10 + 2
"""Of a hook, and what O-TIME allows over it; machines that are busy take their time."""

_MEASURE = """
import os, sys
child = os.fork()
if not child:
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(usage.ru_maxrss))
os._exit(os.waitstatus_to_exitcode(status) % 256)
"""


def host_read_only(folder: Path, start: Path, more: str = "") -> list[str]:
    """O-RO, always: what is run after these words can write to no file of the host but `folder`'s.

    So neither an attack that succeeds nor a hook that was broken on purpose harms the machine.
    """
    script = f"""
        (
            PATH={ENVIRONMENT["PATH"]}
            mount --bind {shlex.quote(str(folder))} {shlex.quote(str(folder))}
            mount -o remount,bind,ro /
        )
        {more}
        cd {shlex.quote(str(start))}
        exec "$@"
    """
    words = ["/usr/bin/unshare", "-m", "/bin/sh", "-ec", script, "sh"]
    return [*words, "/usr/bin/env", "-u", "PWD", "-u", "OLDPWD"]


class Attempt:
    """How one run ended, and what was seen of it."""

    def __init__(self, victim: Victim) -> None:
        self.victim = victim
        self.status = -1
        self.said = ""
        self.stdout = ""
        self.seconds = 0.0
        self.peak_kib = 0
        self.late = False
        self.orphans: HarmError | None = None
        self.before: Prints | None = None
        self.after: Prints | None = None

    def __repr__(self) -> str:
        return f"exit {self.status} after {self.seconds:.1f} s: {self.said[-800:]!r}"

    def harmless(
        self,
        *statuses: int,
        lines: int = 1,
        but_ctime: bool = False,
        seconds: float = DEADLINE,
        also: str | None = None,
        read_only: bool = False,
    ) -> Attempt:
        """Ask every oracle that needs no tracing; the first that has seen something raises.

        Args:
            statuses: those that are documented for this image; 0 if none is given.
            lines: how many lines it may say.
            but_ctime: the image holds another name of the sentinel's file.
            seconds: O-TIME.
            also: O-DIFF's names beside the documented ones, as a pattern.
            read_only: the image's own file system is; else it was the host's that it has met.
        """
        victim = self.victim
        oracles.sentinel(victim.prints, oracles.fingerprint(victim.canary), but_ctime=but_ctime)
        victim.mounts_are_the_same()
        if "read-only" in self.said.lower() and not read_only:
            raise HarmError("O-RO", repr(self))
        if self.orphans:
            raise self.orphans
        if self.late:
            raise HarmError("O-TIME", repr(self))
        oracles.in_time(self.seconds, seconds)
        if self.peak_kib:
            oracles.in_memory(self.peak_kib)
        if self.before is not None and self.after is not None:
            oracles.documented(self.before, self.after, also=also)
        if self.status not in (statuses or (0,)):
            raise HarmError("status", repr(self))
        oracles.said_in_lines(self.said, lines)
        return self

    def audited(self, *, ldconfig: bool = False) -> Attempt:
        """O-EXEC and O-OPEN, of a victim that is `traced`."""
        audit = Audit(self.victim.trace.read_text(errors="replace"), self.victim.root)
        audit.opened(ldconfig=ldconfig)
        audit.executed(ldconfig=ldconfig)
        audit.written(ldconfig=ldconfig)
        audit.read(ldconfig=ldconfig)
        return self


class Victim(Container):
    """A bundle, its root, the sentinel beside it, and the hook that is run on it."""

    LINK = ("--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1")
    FULL = (
        "create-container",
        *LINK,
        "--host-driver-version", "550.54.15",
        "--host-gpu-brand", "tesla",
        "--folder", "/opt/odd",
        "--disable-device-node-modification",
        "--update-application-profile",
    )  # fmt: skip
    """The command line of a generated spec, with every step in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.trace = folder / "trace"
        self.sandbox = host_read_only(folder, self.root)
        self.patience = 25.0
        self.prints = oracles.fingerprint(self.canary)
        self.spec: dict[str, Any] = {}

    def furnish(self) -> None:
        """Something for every step to do; the driver's library is the caller's to inject."""
        self.write("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
        (self.root / "etc/ld.so.conf.d").mkdir()
        os.mknod(self.root / "dev/nvidia0", 0o020666, os.makedev(195, 0))

    def naive(self) -> None:
        """Take the control instead of the hook, where it can harm nothing but the sentinel."""
        run = f"import runpy; runpy.run_path({str(NAIVE)!r}, run_name='__main__')"
        self.launcher = [PYTHON, "-c", run]
        self.patience = 2.0
        self.sandbox = host_read_only(self.folder, self.root, "ulimit -v 300000;")

    def all_but_the_root_read_only(self) -> None:
        """O-RO, to the letter: a success proves that nothing outside of the root is written."""
        self.with_mounts(
            f"mount --bind {self.root} {self.root}; mount -o remount,bind,ro {self.folder}"
        )

    def watch_mounts(self, script: str = ":") -> None:
        """O-MNT, in a mount namespace in which every mount tells every other."""
        self.with_mounts(
            f"mount --make-rshared /; mount --bind {self.root} {self.root}\n"
            f"mount --make-shared {self.root}; {script}\n"
            f"cat /proc/self/mountinfo > {self.folder}/mounts-before",
            f'cat /proc/self/mountinfo > {self.folder}/mounts-after; exit "$status"',
        )

    def mounts_of_the_machine(self) -> str:
        """The lines of its mount table that are of this image: others mount meanwhile."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines(keepends=True)
        return "".join(line for line in lines if str(self.folder) in line)

    def mounts_are_the_same(self) -> None:
        """O-MNT, if `watch_mounts` was asked for."""
        before = self.folder / "mounts-before"
        if before.exists():
            oracles.same_mounts(before.read_text(), (self.folder / "mounts-after").read_text())

    def traced(self) -> None:
        """Have every system call written down that names a file."""
        strace = shutil.which("strace") or "strace"
        self.within += [strace, "-f", "-y", "-s", "300", "-o", str(self.trace), "-e", CALLS]

    def attack(
        self,
        *words: str,
        stdin: bytes | int | None = None,
        environment: dict[str, str] | None = None,
        prints: bool = True,
        measured: bool = False,
        **more: Any,
    ) -> Attempt:
        """Run the hook as runc does, and look at what there is to see; nothing is judged yet.

        Args:
            words: the command line.
            stdin: the state, if it is not the usual one; or an open file.
            environment: if it is not that of a generated spec.
            prints: look at the whole image before and after, for O-DIFF.
            measured: for O-MEM.
            more: for `subprocess.Popen`.
        """
        attempt = Attempt(self)
        command = [*self.sandbox, *self.within, *self.launcher, *words]
        memory = self.folder / "memory"
        if measured:
            at = len(self.sandbox) + len(self.within)
            command[at:at] = [PYTHON, "-IS", "-c", _MEASURE, str(memory)]
        if prints:
            attempt.before = oracles.fingerprint(self.root)
        given = self.state() if stdin is None else stdin
        with oracles.adopting() as orphans:
            self._run(attempt, command, given, environment, more)
            attempt.orphans = _left(orphans)
        if measured:
            attempt.peak_kib = int(memory.read_text())
        if prints:
            attempt.after = oracles.fingerprint(self.root)
        return attempt

    def _run(
        self,
        attempt: Attempt,
        command: list[str],
        given: bytes | int,
        environment: dict[str, str] | None,
        more: dict[str, Any],
    ) -> None:
        begun = time.monotonic()
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE if isinstance(given, bytes) else given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT if environment is None else environment,
            cwd=self.root,
            start_new_session=True,
            **more,
        ) as process:
            try:
                out, said = process.communicate(
                    given if isinstance(given, bytes) else None, timeout=self.patience
                )
            except subprocess.TimeoutExpired:
                attempt.late = True
                os.killpg(process.pid, signal.SIGKILL)
                out, said = process.communicate(timeout=10)
        attempt.seconds = time.monotonic() - begun
        attempt.status = process.returncode
        attempt.stdout = out.decode(errors="replace")
        attempt.said = said.decode(errors="replace")


def _left(orphans: Orphans) -> HarmError | None:
    try:
        orphans.none_left()
    except HarmError as noticed:
        return noticed
    return None
