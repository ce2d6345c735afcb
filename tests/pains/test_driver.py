# SPDX-License-Identifier: Apache-2.0
"""The driver's version, its daemon, and hosts without a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doctor.examining import doctor, examine, healthy, process, write
from tests.fakehost.hosts import FakeHost
from tests.fakehost.kernel import Kernel
from tests.pains import pain
from tests.pains.following import follow
from tests.system.machine import machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")

FORMER = "535.161.07"
VERSION_FILES = ("proc/driver/nvidia/version", "sys/module/nvidia/version")


def installed_spec(fake: FakeHost) -> Path:
    """The spec that a refresh writes on a fake host, where engines of the host look for it."""
    (fake.root / "var").mkdir(exist_ok=True)
    if not (fake.root / "var/run").exists():
        (fake.root / "var/run").symlink_to("/run")
    follow("sudo cdi-gen refresh --force", fake)
    return fake.root / "run/cdi/nvidia.json"


@pain(
    1,
    "crun: cannot stat /usr/lib/x86_64-linux-gnu/libEGL_nvidia.so.535.161.07: No such file or "
    "directory",
    command="cdi-gen doctor spec-freshness",
    codes=("CDG-V102",),
    simulated=True,
)
def test_files_of_the_former_driver(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-1gpu")
    spec = installed_spec(fake)
    assert examine(fake, "spec-freshness").status == "ok"
    # The administrator's own spec of the time before the update, as `nvidia-ctk` wrote it.
    stale = write(
        fake.root, "etc/cdi/nvidia.json", spec.read_text().replace(fake.driver_version, FORMER)
    )
    spec.unlink()
    path = f"/usr/lib/x86_64-linux-gnu/libEGL_nvidia.so.{FORMER}"
    assert f'"{path}"' in stale.read_text()
    assert not (fake.root / path[1:]).exists()

    found = examine(fake, "spec-freshness")
    finding = found.finding("CDG-V102")
    assert finding.subject == "/etc/cdi/nvidia.json"
    assert FORMER in finding.message

    (fake.root / "etc/cdi").mkdir(exist_ok=True)
    follow(finding.fix, fake)
    assert examine(fake, "spec-freshness").codes == ()


@pain(
    2,
    "Failed to initialize NVML: Driver/library version mismatch",
    command="cdi-gen doctor driver-versions",
    codes=("CDG-A021",),
    simulated=True,
)
def test_new_libraries_with_the_old_module(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-split")
    loaded = fake.kernel.driver_version
    assert loaded != fake.driver_version

    finding = examine(fake, "driver-versions").finding("CDG-A021")
    assert (
        f"libraries are {fake.driver_version}, the loaded kernel module is {loaded}"
        in finding.message
    )
    assert "Driver/library version mismatch" in finding.message

    reboot = " ".join(
        f"sed -i s/{loaded}/{fake.driver_version}/ $HOST/{name};" for name in VERSION_FILES
    )
    follow(finding.fix, fake, reboot=reboot)
    assert examine(fake, "driver-versions").status == "ok"


@pain(
    5,
    "stat /run/nvidia-persistenced/socket: no such file or directory",
    command="cdi-gen doctor persistenced",
    codes=("CDG-A082", "CDG-A081"),
    simulated=True,
)
def test_daemon_that_lost_the_race_at_boot(tmp_path: Path) -> None:
    host = machine(tmp_path / "host")
    healthy(host)
    socket = host / "run/nvidia-persistenced/socket"
    assert examine(host, "persistenced").status == "ok"
    # The daemon ended; its socket is left, and specs name it.
    for name in ("cmdline", "status"):
        (host / f"proc/2/{name}").unlink()
    leftover = examine(host, "persistenced").finding("CDG-A082")
    assert (leftover.subject, "does not run" in leftover.message) == (
        "/run/nvidia-persistenced/socket",
        True,
    )
    socket.unlink()
    write(host, "usr/bin/nvidia-persistenced")
    stopped = examine(host, "persistenced").finding("CDG-A081")
    assert "does not run" in stopped.message

    process(tmp_path / "daemon", 2, "nvidia-persistenced")
    started = f"cp -r {tmp_path}/daemon/proc/2/* $HOST/proc/2/; mknod {socket} p"
    follow(
        stopped.fix.replace("&& sudo cdi-gen refresh", ""),
        host,
        systemctl=f"PATH=/usr/bin:/bin; test $1 = restart || exit 0; {started}",
    )
    assert examine(host, "persistenced").status == "ok"


@pain(
    10,
    "nvidia-cdi-refresh.service: Failed with result 'exit-code' (on a node without a GPU)",
    command="cdi-gen doctor gpu-present",
    codes=("CDG-A008",),
    simulated=True,
)
def test_driver_on_a_node_without_a_gpu(tmp_path: Path) -> None:
    host = machine(tmp_path / "host", Kernel(driver_version="550.163.01", loaded=False))
    release = (host / "proc/sys/kernel/osrelease").read_text().strip()
    write(host, f"lib/modules/{release}/modules.dep", "updates/dkms/nvidia.ko.zst:\n")
    assert not any("10de" in path.read_text() for path in host.glob("sys/bus/pci/devices/*/vendor"))

    found = examine(host, "gpu-present")
    finding = found.finding("CDG-A008")
    assert "the driver is installed, but the PCI bus has no NVIDIA GPU" in finding.message
    assert "exits with 3, which its units count as success" in finding.fix
    assert doctor(host, "gpu-present").code == 0  # a warning: nothing is broken

    lspci = "cat $HOST/pci-devices 2>&1 || true"
    assert "No such file" in follow(finding.fix, host, lspci=lspci)
    # The node gets its GPU.
    device = host / "sys/bus/pci/devices/0000:3b:00.0"
    device.mkdir()
    for name, value in {"vendor": "0x10de", "device": "0x2330", "class": "0x030200"}.items():
        write(device, name, f"{value}\n")
    assert examine(host, "gpu-present").status == "ok"
    assert os.path.isdir(device)
