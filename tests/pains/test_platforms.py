# SPDX-License-Identifier: Apache-2.0
"""Machines with NVSwitches, WSL 2, Jetson, and drivers in roots of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doctor.examining import examine, process, running, write
from tests.fakehost.gpus import several
from tests.fakehost.hosts import FakeHost
from tests.fakehost.kernel import Kernel
from tests.pains import pain
from tests.pains.following import follow
from tests.system.machine import machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")

HGX = Kernel(driver_version="550.163.01", gpus=several(8), nvswitches=4)


def starts(host: Path, folder: Path, program: str) -> str:
    """What ``systemctl restart`` of a daemon does, as text of a shell: the daemon has a process."""
    process(folder, 7, program)
    return f"PATH=/usr/bin:/bin; test $1 != restart || cp -r {folder}/proc/7 {host}/proc/"


@pain(
    49,
    "CUDA error 802: system not yet initialized",
    command="cdi-gen doctor fabric-manager",
    codes=("CDG-A121",),
    simulated=True,
)
def test_fabric_manager_does_not_run(tmp_path: Path) -> None:
    host = machine(tmp_path / "host", HGX)
    running(host)
    finding = examine(host, "fabric-manager").finding("CDG-A121")
    assert "4 NVSwitches, and the Fabric Manager does not run" in finding.message
    assert "system not yet initialized" in finding.message

    package = "nvidia-fabricmanager-550=550.163.01-*"
    follow(
        finding.fix,
        host,
        apt_get=f"test \"$2\" = '{package}'",
        systemctl=starts(host, tmp_path / "daemon", "/usr/bin/nv-fabricmanager"),
    )
    assert examine(host, "fabric-manager").status == "ok"


@pain(
    49,
    "CUDA error 800: operation not permitted (cuMemCreate with a fabric handle, IMEX)",
    command="cdi-gen doctor imex",
    codes=("CDG-A124", "CDG-A125"),
    simulated=True,
)
def test_imex_is_not_ready(tmp_path: Path) -> None:
    host = machine(tmp_path / "host", replace(HGX, nvswitches=0))
    running(host)
    write(host, "etc/nvidia-imex/nodes_config.cfg", "# nodes\n10.0.0.1\n10.0.0.2\n")
    found = examine(host, "imex")
    stopped, channel = found.finding("CDG-A124"), found.finding("CDG-A125")
    assert "names 2 nodes, and nvidia-imex does not run" in stopped.message
    assert channel.subject == "/dev/nvidia-caps-imex-channels/channel0"

    follow(stopped.fix, host, systemctl=starts(host, tmp_path / "daemon", "nvidia-imex"))
    follow(channel.fix, host)
    node = host / "dev/nvidia-caps-imex-channels/channel0"
    assert node.stat().st_rdev >> 8 == HGX.imex_major
    assert examine(host, "imex").status == "ok"


@pain(
    50,
    "CUDA: no device found, and Failed to initialize NVML in WSL 2",
    command="cdi-gen doctor platform",
    codes=("CDG-H002", "CDG-A142"),
    simulated=True,
)
def test_driver_for_linux_in_wsl(tmp_path: Path) -> None:
    host = tmp_path / "host"
    write(host, "dev/dxg")
    write(host, "usr/lib/wsl/lib/libcuda.so.1")
    library = write(host, "usr/lib/x86_64-linux-gnu/libcuda.so.550.163.01")
    (library.parent / "libcuda.so.1").symlink_to(library.name)

    found = examine(host, "platform")
    finding = found.finding("CDG-A142")
    assert finding.subject == "/usr/lib/x86_64-linux-gnu/libcuda.so.550.163.01"
    assert "hides the library of Windows' driver in /usr/lib/wsl/lib" in finding.message
    follow(
        finding.fix,
        host,
        apt_get=f"PATH=/usr/bin:/bin; test $1 = purge; rm {library.parent}/libcuda*",
        ldconfig="exit 0",
    )
    found = examine(host, "platform")
    assert found.codes == ("CDG-H002",)
    # What is left is that cdi-gen writes no spec for WSL 2; the printed command does.
    arguments = tmp_path / "arguments"
    follow(found.findings[0].fix, host, nvidia_ctk=f'echo "$@" > {arguments}')
    assert "--mode wsl" in arguments.read_text()


@pain(
    51,
    "no libraries in containers on a Jetson",
    command="cdi-gen doctor platform",
    codes=("CDG-H002", "CDG-A146"),
    simulated=True,
)
def test_jetson_without_its_lists(tmp_path: Path) -> None:
    host = tmp_path / "host"
    write(host, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3\n")
    finding = examine(host, "platform").finding("CDG-A146")
    assert "/etc/nvidia-container-runtime/host-files-for-container.d" in finding.message

    lists = host / "etc/nvidia-container-runtime/host-files-for-container.d"
    install = f"PATH=/usr/bin:/bin; test $1 = install; mkdir -p {lists}; touch {lists}/drivers.csv"
    follow(finding.fix, host, apt_get=install)
    found = examine(host, "platform")
    assert found.codes == ("CDG-H002",)
    assert found.findings[0].fix.startswith("sudo nvidia-ctk cdi generate --mode csv")


@pain(
    52,
    "the NVIDIA kernel module is loaded, but none of its libraries is installed under /",
    command="cdi-gen doctor driver-libraries",
    codes=("CDG-H003",),
    simulated=True,
)
def test_driver_container_has_a_root_of_its_own(own_host: Callable[[str], FakeHost]) -> None:
    root = own_host("550-operator").root
    assert (root / "run/nvidia/driver/usr/bin/nvidia-smi").exists()
    found = examine(root, "driver-libraries")  # no option, as a user calls it
    finding = found.finding("CDG-H003")
    assert "none of its libraries is installed under /" in finding.message
    assert 'driver-root = "/run/nvidia/driver"' in finding.fix

    follow(finding.fix, root)
    assert examine(root, "driver-libraries").status == "ok"
    assert examine(root, "dev-root").status == "ok"
    follow("sudo cdi-gen refresh", root)
    assert "/run/nvidia/driver/usr/lib" in (root / "run/cdi/nvidia.json").read_text()
