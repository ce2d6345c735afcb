# SPDX-License-Identifier: Apache-2.0
"""Follows the advice that a command prints, on a fake host: the text is run by a shell as printed.

Paths in it are those of the fake host. ``cdi-gen`` sees the fake host by its options, and has the
host's /run for its own. Programs that change the machine (``reboot``, ``modprobe``, ``nvidia-smi``)
do on the fake host what a test says; a program that a test does not name is not found.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fakehost.hosts import FakeHost
from tests.host.looking import SOURCES, driver_root_of

OF_THE_SYSTEM = (
    *(
        "cat",
        "chmod",
        "chown",
        "echo",
        "grep",
        "mkdir",
        "mknod",
        "printf",
        "rm",
        "sed",
        "sh",
        "tee",
        "touch",
        "test",
    ),
)
"""Programs that act on the paths in their arguments only."""

DIRECTORIES = ("boot", "dev", "etc", "lib", "proc", "run", "sys", "tmp", "usr", "var")
_PATH = re.compile(rf"(?<![\w./\"-])/(?={'|'.join(f'{name}(?:/|$)' for name in DIRECTORIES)})")
"""An absolute path of the host that is a word; what is in double quotes is the value of a setting."""

SECONDS = 60


def follow(advice: str, host: FakeHost | Path, **programs: str) -> str:
    """Run the printed advice on a fake host, and return what it printed.

    Args:
        advice: the fix of a finding.
        host: the fake host, or the root directory of one.
        programs: what other programs do, as text of a shell, in which ``$HOST`` is the root of the
            host; ``nvidia_smi`` stands for ``nvidia-smi``.
    """
    root = host if isinstance(host, Path) else host.root
    options = ["--host-root", str(root)]
    if isinstance(host, FakeHost):
        options += ["--driver-root", driver_root_of(host)]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for program in OF_THE_SYSTEM:
            path = shutil.which(program)
            assert path is not None
            (directory / program).symlink_to(path)
        _script(directory / "sudo", 'exec "$@"')
        _script(directory / "cdi-gen", _cdi_gen(root, options))
        for program, text in programs.items():
            _script(directory / program.replace("_", "-"), text)
        done = subprocess.run(
            ["/bin/sh", "-ec", _PATH.sub(f"{root}/", advice)],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={"PATH": name, "HOST": str(root), "PYTHONPATH": SOURCES, "LC_ALL": "C.UTF-8"},
        )
    assert done.returncode == 0, (advice, done.stdout, done.stderr)
    return done.stdout + done.stderr


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh -e\n{text}\n")
    path.chmod(0o755)


def _cdi_gen(root: Path, options: list[str]) -> str:
    (root / "run").mkdir(exist_ok=True)
    unshare = shutil.which("unshare")
    inner = f'/bin/mount --bind {root}/run /run && exec {sys.executable} -m cdi_gen "$@"'
    command = f"exec {unshare} --mount /bin/sh -ec '{inner}' cdi-gen \"$@\""
    # This command has another option for the root of the host, and needs the host's interpreter.
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    return (
        f'if test "$1 $2" = "hook install"; then touch {root}/usr/bin/python3; '
        f"chmod 755 {root}/usr/bin/python3; {command} --root {root}; fi\n"
        f"{command} {' '.join(options)}"
    )
