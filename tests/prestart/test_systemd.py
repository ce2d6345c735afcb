# SPDX-License-Identifier: Apache-2.0
"""`systemctl daemon-reload` does not take the devices of a running container away.

With a systemd of its own: process 1 of new PID, mount, control group and host name namespaces, with
no unit but the test's, so that nothing of the machine's is started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cache import LabUnavailableError
from tests.lab.systemd import new_group, remove_group
from tests.prestart.machine import DENIED, NO_DEVICE, NODES, Machine

pytestmark = pytest.mark.engine

SYSTEMD = "/usr/lib/systemd/systemd"
EMPTY = (
    "/run",
    "/var/log",
    "/etc/systemd",
    "/etc/init.d",
    "/etc/rc2.d",
    "/etc/modules-load.d",
    "/usr/lib/systemd/system",
    "/usr/lib/systemd/system-generators",
    "/usr/lib/systemd/system-environment-generators",
    "/usr/lib/environment.d",
)
PATIENCE = 20


class Booted:
    """The systemd of a test, and commands where it is."""

    def __init__(self, first: int) -> None:
        self.first = first

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "-t", str(self.first), "-m", "-p", "-C", "-u"]
        return subprocess.run(
            [*enter, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=check,
            timeout=PATIENCE,
        )


@contextlib.contextmanager
def booted(machine: Machine, prepare: str = "") -> Iterator[Booted]:
    """Boot systemd; ``prepare`` is a script that runs before, in its mount namespace."""
    if not Path(SYSTEMD).exists() or not shutil.which("systemctl"):
        pytest.skip("needs systemd")
    try:
        group = new_group()
    except LabUnavailableError as error:
        pytest.skip(str(error))
    folder = machine.folder
    nodes = "; ".join(
        f"mknod -m 666 {machine.devices / name} c {major} {minor}"
        for name, (major, minor) in NODES.items()
    )
    script = f"""
        mount --make-rprivate /
        mount --bind {folder} {folder}
        mkdir {machine.devices}/caps; {nodes}
        mount -o remount,bind,ro /
        mount -t proc proc /proc
        umount -l -R /sys/fs/cgroup
        mount -t cgroup2 none /sys/fs/cgroup
        for place in {" ".join(EMPTY)}; do [ ! -d $place ] || mount -t tmpfs -o mode=755 none $place; done
        mkdir /etc/systemd/system
        printf '[Unit]\\nDefaultDependencies=no\\n' >/usr/lib/systemd/system/lab.target
        {prepare}
        cd /
        exec env -i container=test PATH=$PATH {SYSTEMD} --unit=lab.target --show-status=no
    """
    outside = (
        f'echo $$ >{group}/cgroup.procs; exec unshare -m -p -f -C -u --kill-child=KILL sh -ec "$1"'
    )
    with subprocess.Popen(
        ["sh", "-ec", outside, "sh", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield _ready(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            remove_group(group)


def _ready(outside: int) -> Booted:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        children = Path(f"/proc/{outside}/task/{outside}/children").read_text().split()
        if children:
            system = Booted(int(children[0]))
            if system.run("systemctl", "is-active", "lab.target", check=False).returncode == 0:
                return system
        time.sleep(0.05)
    pytest.skip("systemd does not start in a namespace here")


@contextlib.contextmanager
def running(machine: Machine, systemd: Booted) -> Iterator[list[str]]:
    """A container in a scope; gives the words that run something in it."""
    machine.spec["process"]["args"] = ["/bin/busybox", "sleep", "60"]
    machine.spec["linux"]["cgroupsPath"] = "system.slice:test:gpu"
    machine.write_down()
    runc = ["runc", "--root", "/run/runc"]
    start = f"exec {' '.join(runc)} --systemd-cgroup run -d -b {machine.bundle} gpu >/dev/null 2>&1"
    systemd.run("sh", "-c", start)
    yield [*runc, "exec", "gpu", "/bin/busybox", "sh", "-c"]


def _output(systemd: Booted, inside: list[str], script: str) -> str:
    ended = systemd.run(*inside, script, check=False)
    return ended.stdout + ended.stderr


def test_devices_stay_allowed_after_daemon_reload(machine: Machine) -> None:
    with booted(machine) as systemd, running(machine, systemd) as inside:
        opens = "cat </dev/nvidia0; cat </dev/caps/cap1"
        assert _output(systemd, inside, opens).count(NO_DEVICE) == 2
        systemd.run("systemctl", "daemon-reload")
        assert _output(systemd, inside, opens).count(NO_DEVICE) == 2
        # What the engine allowed is as it was, and nothing more is allowed.
        others = "echo x >/dev/null; head -c1 </dev/zero | wc -c; mknod /dev/k c 1 11; cat </dev/k"
        assert _output(systemd, inside, others).startswith("1\n")
        shown = systemd.run("systemctl", "show", "test-gpu.scope", "-p", "DeviceAllow").stdout
        assert "DeviceAllow=/dev/char/195:0 rw\n" in shown
        assert "DeviceAllow=/dev/char/1:3 rwm\n" in shown


def test_devices_are_lost_if_systemd_does_not_know_them(machine: Machine) -> None:
    """The control: the devices stay only because systemd knows them."""
    libexec = machine.folder / "libexec"
    shutil.copytree(Path(machine.program).parent, libexec)
    with (libexec / "cdi_runtime/prestart/systemd.py").open("a") as module:
        module.write("\n\ndef allow(*_):\n    return False\n")
    machine.program = str(libexec / "cdi-gen-runtime-hook")
    with booted(machine) as systemd, running(machine, systemd) as inside:
        assert NO_DEVICE in _output(systemd, inside, "cat </dev/nvidia0")
        systemd.run("systemctl", "daemon-reload")
        assert DENIED in _output(systemd, inside, "cat </dev/nvidia0")


def test_device_keeps_the_access_that_it_had(machine: Machine) -> None:
    """The spec's `rw` does not remove `m` from the rule that the engine created for the node."""
    machine.edits["deviceNodes"].append(
        {"path": "/dev/nul", "hostPath": "/dev/null", "permissions": "r"}
    )
    with booted(machine) as systemd, running(machine, systemd):
        shown = systemd.run("systemctl", "show", "test-gpu.scope", "-p", "DeviceAllow").stdout
        assert "DeviceAllow=/dev/char/1:3 rwm\n" in shown


def test_scope_without_restrictions_stays_unrestricted(machine: Machine) -> None:
    """`--privileged`: the first device in DeviceAllow would deny all others."""
    machine.spec["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    with booted(machine) as systemd, running(machine, systemd) as inside:
        shown = systemd.run(
            "systemctl", "show", "test-gpu.scope", "-p", "DevicePolicy", "-p", "DeviceAllow"
        )
        assert shown.stdout == "DevicePolicy=auto\n"
        systemd.run("systemctl", "daemon-reload")
        assert NO_DEVICE in _output(systemd, inside, "cat </dev/nvidia0")
