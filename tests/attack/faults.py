# SPDX-License-Identifier: Apache-2.0
"""One run of the whole hook in which a system call fails, or a signal comes with it.

strace counts the calls of each name from the first of the process; so a run without faults is
looked at first, and of its calls those count that come after the interpreter has started: what an
interpreter says that cannot start is not ours.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import stat
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.hook.conftest import HOOKS, PYTHON, Container, Ended

OPTIONS = (
    "create-container",
    "--link", "libnew.so.1::/opt/odd/libnew.so",
    "--link", "libnew.so.1::/opt/odd/libold.so",
    "--link", "/opt/odd/libnew.so.1::/usr/lib/deep/down/libnew.so",
    "--host-driver-version", "550.54.15",
    "--host-cuda-version", "12.4",
    "--folder", "/opt/odd",
    "--disable-device-node-modification",
    "--update-application-profile",
    "--path", "/opt/odd", "--mode", "755",
)  # fmt: skip
"""Every step that there is."""

COMPAT_DROP_IN = "etc/ld.so.conf.d/00-cdi-gen-compat.conf"
LD_SO_CONF = "etc/ld.so.conf"
INCLUDE = "include /etc/ld.so.conf.d/*.conf\n"
"""Is taken away where the compat folder cannot be looked at: in doubt it is not used."""

ENDINGS = {"TERM": 15, "INT": 2, "HUP": 1}

FIRST_OF_OURS = "alarm"
"""What `process.isolate` calls before nearly all else, and an interpreter that starts does not."""

LEFT_OUT = {"exit_group", "brk"}
"""The one is the end; the other has no errors: it gives an address that has not moved."""

Tree = dict[str, tuple[str, str]]


class Call(NamedTuple):
    """The `number`th call of this name."""

    name: str
    number: int


class Scene:
    """An image with results of an earlier hook, created again for each run, and a copy of the hook."""

    def __init__(self, folder: Path, libraries: Path) -> None:
        self.container = Container(folder)
        self.root = self.container.root
        self.pristine = folder / "pristine"
        self.trace = folder / "trace"
        # Nobody changes a copy meanwhile, and it is byte-compiled: the calls are the same each time.
        self.hook = folder / "hooks/cdi-gen-hook"
        shutil.copytree(HOOKS, folder / "hooks")
        compileall.compile_dir(folder / "hooks", quiet=1)
        self._furnish(libraries)
        subprocess.run(["cp", "-a", self.root, self.pristine], check=True)
        self.old = snapshot(self.root)
        self.calm, self.calls = self._look()
        self.new = snapshot(self.root)
        self.libraries = self.container.cached().items()

    def _furnish(self, libraries: Path) -> None:
        write = self.container.write
        for library in libraries.iterdir():
            write(f"opt/odd/{library.name}", library.read_bytes())
        write(LD_SO_CONF, INCLUDE)
        write("etc/ld.so.conf.d/00-cdi-gen.conf", "/opt/older\n")
        write(COMPAT_DROP_IN, "/opt/older/compat\n")
        write("etc/ld.so.cache", b"the old cache")
        write("usr/local/cuda/compat/libcuda.so.570.26", b"a newer one, without a note")
        write("etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf", "the old one")
        (self.root / "opt/odd/libold.so").symlink_to("libolder.so.1")
        (self.root / "opt/odd").chmod(0o700)
        for minor in (0, 3):
            os.mknod(self.root / f"dev/nvidia{minor}", stat.S_IFCHR | 0o666, os.makedev(195, minor))

    def _look(self) -> tuple[Ended, list[Call]]:
        """Run once without a fault; which calls there were once the hook itself had begun."""
        ended = self.run(["-o", str(self.trace)])
        return ended, calls(self.trace.read_text(errors="replace"), FIRST_OF_OURS)

    def again(self) -> None:
        """The image as it was before the first run."""
        shutil.rmtree(self.root)
        subprocess.run(["cp", "-a", self.pristine, self.root], check=True)

    def run(self, strace: list[str], *options: str) -> Ended:
        """Run the hook in this image, below strace."""
        self.container.launcher = ["strace", "-f", "-qq", *strace, PYTHON, "-IS", str(self.hook)]
        return self.container.hook(*(options or OPTIONS))

    def inject(self, name: str, fault: str, *options: str) -> Ended:
        """Run it in a fresh image, with what strace calls an injection into calls of this name."""
        self.again()
        return self.run(["-o", "/dev/null", *injection(name, fault)], *options)

    def missing(self) -> set[str]:
        """The names that have not become what they should."""
        now = snapshot(self.root)
        return {name for name in self.new if now.get(name) != self.new[name]}

    def half(self) -> set[str]:
        """The names that are neither as they were nor as they should become."""
        now = snapshot(self.root)
        return {
            name
            for name in self.old.keys() | self.new.keys() | now.keys()
            if now.get(name) not in {self.old.get(name), self.new.get(name)}
            and not (name == COMPAT_DROP_IN and name not in now)
        }

    def includes_ours_first(self) -> bool:
        """Whether ld.so.conf includes the hook's drop-in before all others.

        So it is written if the names of the others could not be read.
        """
        text = (self.root / LD_SO_CONF).read_text("utf-8")
        return text == f"include /etc/ld.so.conf.d/00-cdi-gen*.conf\n{INCLUDE}"

    def lacks_libraries(self) -> bool:
        """Whether the cache is a whole one that has some of the libraries, and nothing else."""
        found = self.container.cached().items()
        return found < self.libraries


def injection(name: str, fault: str) -> list[str]:
    """The options of strace that inject a fault into calls of this name.

    With a filter only calls of this name stop the program, which takes half of the time. strace 6.1
    injects no signal then.
    """
    options = ["-e", f"trace={name}", "-e", f"inject={name}:{fault}"]
    return ["--seccomp-bpf", *options] if fault.startswith("error=") else options


def calls(trace: str, first: str) -> list[Call]:
    """The calls of a process from the first of a name on, each with its number in all of them."""
    counts: Counter[str] = Counter()
    ours: list[Call] = []
    process = trace.partition(" ")[0]
    for line in trace.splitlines():
        found = re.match(rf"{process} +(\w+)\(", line)
        if found:
            counts[found[1]] += 1
            if (ours or found[1] == first) and found[1] not in LEFT_OUT:
                ours.append(Call(found[1], counts[found[1]]))
    assert ours
    return ours


def snapshot(folder: Path) -> Tree:
    """Kind, mode and content of everything below a folder."""
    known: Tree = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        says = ""
        if stat.S_ISLNK(mode):
            says = os.readlink(path)
        elif stat.S_ISREG(mode):
            says = path.read_bytes().hex()
        known[str(path.relative_to(folder))] = (stat.filemode(mode), says)
    return known
