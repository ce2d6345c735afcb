# SPDX-License-Identifier: Apache-2.0
"""Runs ``cdi-gen doctor`` on a fake host, and gives the kernel's side of a host other contents."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from cdi_base.findings import Finding
from cdi_gen.doctor.engine_statuses import finding_of
from tests.cli.program import Result, cdi_gen
from tests.fakehost.hosts import FakeHost
from tests.host.looking import driver_root_of

USER = 1000
"""An ordinary user, whom the machine need not have."""


class Examined(NamedTuple):
    """The result of one check in the JSON output of doctor."""

    status: str
    line: str
    findings: tuple[Finding, ...]
    fix: str

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the findings."""
        return tuple(finding.code for finding in self.findings)

    def finding(self, code: str) -> Finding:
        """The finding with this code."""
        (finding,) = (finding for finding in self.findings if finding.code == code)
        return finding


def doctor(fake: FakeHost | Path, *words: str, env: dict[str, str] | None = None) -> Result:
    """Run ``cdi-gen doctor`` on a fake host, or on the host in a directory."""
    if isinstance(fake, Path):
        return cdi_gen("doctor", *words, "--host-root", str(fake), env=env)
    options = ("--host-root", str(fake.root), "--driver-root", driver_root_of(fake))
    return cdi_gen("doctor", *words, *options, env=env)


def document(fake: FakeHost | Path, *words: str) -> dict[str, Any]:
    """The JSON output of ``cdi-gen doctor``."""
    result = doctor(fake, *words, "--json")
    assert "Traceback" not in result.err
    parsed: dict[str, Any] = json.loads(result.out)
    return parsed


def examine(fake: FakeHost | Path, check: str, *words: str) -> Examined:
    """The result of one check."""
    return examined(document(fake, check, *words))


def examined(parsed: dict[str, Any]) -> Examined:
    """The result of the one check of a JSON output."""
    (result,) = parsed["checks"]
    findings = tuple(map(finding_of, result["findings"]))
    return Examined(result["status"], result["line"], findings, result["fix"])


def opened(root: Path) -> Path:
    """Open the directories above a host, which pytest closes, to other users."""
    for directory in (root, *root.parents[:4]):
        directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
    return root


def examine_as_user(root: Path, check: str, **environment: str) -> Examined:
    """The result of one check for an ordinary user."""
    words = ("doctor", check, "--json", "--host-root", str(opened(root)))
    result = cdi_gen(*words, env=environment, user=USER, group=USER, extra_groups=[])
    assert result.out, result
    return examined(json.loads(result.out))


def log(root: Path, *lines: str) -> None:
    """Write the kernel's log of a host, in the form of /dev/kmsg."""
    records = [
        f"4,{number},{1_000_000 * number},-;{line}\n" for number, line in enumerate(lines, 1)
    ]
    path = root / "dev/kmsg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(records))


def write(root: Path, path: str, text: str = "") -> Path:
    """Write a file of a host, with the directories above it."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    # A file of the driver root is a hard link into the cache.
    file.unlink(missing_ok=True)
    file.write_text(text)
    return file


def process(root: Path, pid: int, *arguments: str, user: int = 0) -> None:
    """Add a process to the /proc of a host."""
    write(root, f"proc/{pid}/cmdline", "".join(f"{word}\0" for word in arguments))
    write(
        root,
        f"proc/{pid}/status",
        f"Name:\t{arguments[0][-15:]}\nUid:\t{user}\t{user}\t{user}\t{user}\n",
    )


def running(root: Path, *programs: str) -> None:
    """Let a host be a running one: its kernel's log, its init, and these daemons."""
    log(root, "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64")
    for pid, program in enumerate(("/sbin/init", *programs), start=1):
        process(root, pid, program)


def socket(root: Path, path: str) -> None:
    """Create a socket, as bind(2) leaves it; its paths end at 108 characters."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(file, stat.S_IFSOCK | 0o666)


def healthy(root: Path) -> None:
    """Give a fake host what a running host has: a log, processes, and nvidia-persistenced."""
    running(root, "nvidia-persistenced")
    socket(root, "run/nvidia-persistenced/socket")


def link_in(host: Path, directory: str, name: str, target: Path) -> None:
    """Create a relative link, as sysfs has them."""
    place = (host / directory).resolve()
    (place / name).symlink_to(os.path.relpath(target, place))
