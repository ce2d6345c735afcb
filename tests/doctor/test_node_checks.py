# SPDX-License-Identifier: Apache-2.0
"""Faults of device nodes, of MPS and of the NVLink fabric, each on a host that is good before."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen.doctor.host import Host
from cdi_gen.doctor.run import run_one
from cdi_gen.engines.machine import Machine
from cdi_gen.host import Where
from tests.doctor.examining import examine, process, running, write
from tests.doctor.test_driver_checks import CHECKS, codes, examined
from tests.fakehost.gpus import several
from tests.fakehost.hosts import FakeHost
from tests.fakehost.kernel import Kernel
from tests.system.machine import machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")

WHOLE = Kernel(driver_version="550.163.01", gpus=several(2))
HGX = replace(WHOLE, nvswitches=2)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    root = machine(tmp_path / "host", WHOLE)
    running(root)
    return root


def test_node_of_another_boot(host: Path) -> None:
    assert examined(host, "stale-nodes").status == "ok"
    node = host / "dev/nvidia-uvm"
    node.unlink()
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(WHOLE.uvm_major - 1, 0))
    (finding,) = examined(host, "stale-nodes").findings
    assert (finding.code, finding.subject) == ("CDG-H301", "/dev/nvidia-uvm")
    assert f"the kernel uses {WHOLE.uvm_major}:0" in finding.message


def test_file_in_place_of_a_node(host: Path) -> None:
    (host / "dev/nvidiactl").unlink()
    write(host, "dev/nvidiactl")
    assert codes(examined(host, "missing-nodes")) == ["CDG-D103"]


def test_parameter_that_leaves_nodes_alone_is_a_note(host: Path) -> None:
    parameters = host / "proc/driver/nvidia/params"
    parameters.write_text(
        parameters.read_text().replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0")
    )
    result = examined(host, "missing-nodes")
    assert (result.status, codes(result)) == ("ok", ["CDG-D101"])


def test_gpu_without_a_node_that_programs_may_not_create(
    own_host: Callable[[str], FakeHost],
) -> None:
    fake = own_host("550-1gpu")
    (fake.root / "dev/nvidia0").unlink()
    finding = examined(fake.root, "gpu-usable").findings[0]
    assert (finding.code, finding.severity) == ("CDG-H103", "error")
    assert finding.fix.startswith("sudo cdi-gen system create-device-nodes")
    parameters = fake.root / "proc/driver/nvidia/params"
    text = parameters.read_text().replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0")
    parameters.write_text(text)
    assert "NVreg_ModifyDeviceFiles=0" in examined(fake.root, "gpu-usable").findings[0].fix


@pytest.mark.parametrize(
    ("gid", "fix"), [(44, "sudo usermod -aG 44 USER"), (0, "NVreg_DeviceFileMode=0666")]
)
def test_nodes_that_the_drivers_parameters_restrict(host: Path, gid: int, fix: str) -> None:
    """The driver undoes chmod."""
    parameters = host / "proc/driver/nvidia/params"
    text = re.sub(r"(DeviceFileMode): \d+", rf"\1: {0o660}", parameters.read_text())
    parameters.write_text(re.sub(r"(DeviceFileGID): \d+", rf"\1: {gid}", text))
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-modeset"):
        (host / "dev" / name).chmod(0o660)
        os.chown(host / "dev" / name, 0, gid)
    (finding,) = examined(host, "node-modes").findings
    assert (finding.code, finding.severity) == ("CDG-A065", "info")
    assert fix in finding.fix
    assert "chmod" not in finding.fix


def test_mode_that_is_not_the_drivers(host: Path) -> None:
    assert examined(host, "node-modes").findings == ()
    (host / "dev/nvidia0").chmod(0o600)
    (finding,) = examined(host, "node-modes").findings
    assert (finding.code, finding.severity) == ("CDG-A061", "warning")
    assert "/dev/nvidia0 has the mode 0600 and the owner 0:0" in finding.message
    assert finding.fix.startswith("sudo chmod 0666 /dev/nvidia0")


def test_mode_that_the_administrator_has_set_is_a_note(host: Path) -> None:
    parameters = host / "proc/driver/nvidia/params"
    text = parameters.read_text().replace("DeviceFileMode: 438", "DeviceFileMode: 432")
    parameters.write_text(text.replace("DeviceFileGID: 0", "DeviceFileGID: 44"))
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-modeset"):
        (host / "dev" / name).chmod(0o660)
        os.chown(host / "dev" / name, 0, 44)
    result = examined(host, "node-modes")
    assert (result.status, codes(result)) == ("ok", ["CDG-A065"])


def test_links_that_systemd_needs(host: Path) -> None:
    assert examined(host, "dev-char-links").status == "not-applicable"
    (host / "run/systemd/system").mkdir(parents=True)
    (finding,) = examined(host, "dev-char-links").findings
    assert finding.code == "CDG-A062"
    assert "195:0 for /dev/nvidia0" in finding.message
    assert finding.fix == "sudo cdi-gen system create-dev-char-symlinks"


def test_gpu_without_its_render_node(host: Path) -> None:
    assert examined(host, "drm-nodes").status == "ok"
    (host / "dev/dri/renderD129").unlink()
    (finding,) = examined(host, "drm-nodes").findings
    assert (finding.code, finding.subject) == ("CDG-H201", "/dev/dri/renderD129")


def test_nodes_below_another_root(host: Path) -> None:
    """A driver container whose /dev has no nodes, because the host's has."""
    assert examined(host, "dev-root").findings == ()
    driver = host / "run/nvidia/driver"
    (driver / "dev").mkdir(parents=True)
    where = Where(str(host), "/run/nvidia/driver")
    (finding,) = run_one(CHECKS["dev-root"], Host(where)).findings
    assert finding.code == "CDG-A064"
    assert "/run/nvidia/driver/dev has no nodes of the driver, but /dev has" in finding.message
    assert 'dev-root = "/"' in finding.fix


def test_pipes_of_mps_without_a_daemon(host: Path) -> None:
    assert examined(host, "mps").status == "not-applicable"
    write(host, "tmp/nvidia-mps/control")
    (finding,) = examined(host, "mps").findings
    assert (finding.code, finding.severity) == ("CDG-A101", "warning")
    process(host, 9, "nvidia-cuda-mps-control", "-d")
    result = examined(host, "mps")
    assert (result.status, codes(result)) == ("ok", ["CDG-A102"])


class FabricManager(Machine):
    """A machine whose Fabric Manager prints a version."""

    def program(self, name: str) -> str | None:
        return f"/usr/bin/{name}"

    def trusts(self, program: str) -> bool:
        return program == "/usr/bin/nv-fabricmanager"

    def output(self, *command: str) -> str | None:
        assert command == ("/usr/bin/nv-fabricmanager", "--version")
        return "Fabric Manager version is : 535.216.01\n"


def test_fabric_manager_of_another_driver(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", HGX)
    running(root, "nv-fabricmanager")
    assert examined(root, "fabric-manager").status == "ok"
    host = Host(Where(str(root)), machine=FabricManager())
    (finding,) = run_one(CHECKS["fabric-manager"], host).findings
    assert finding.code == "CDG-A122"
    assert "is 535.216.01, the driver is 550.163.01" in finding.message
    assert "'nvidia-fabricmanager-550=550.163.01-*'" in finding.fix


@pytest.mark.parametrize(
    ("state", "daemons", "found"),
    [
        (3, (), []),
        (2, ("nv-fabricmanager",), ["CDG-A123"]),
        (1, (), ["CDG-A121"]),
    ],
    ids=["built-from-outside", "in-progress", "not-started"],
)
def test_state_of_the_fabric(
    own_host: Callable[[str], FakeHost], state: int, daemons: tuple[str, ...], found: list[str]
) -> None:
    """As NVML reports it: in a virtual machine the Fabric Manager runs outside."""
    fake = own_host("550-hgx")
    running(fake.root, *daemons)
    description = next(fake.nvml.parent.glob("nvml-mock.host"))
    with description.open("a") as file:
        for index in range(8):
            file.write(f"fabric {index} {'ab' * 16} 0 {state}\n")
    assert list(examine(fake, "fabric-manager").codes) == found


def test_container_with_some_of_the_gpus(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-8gpu")
    write(fake.root, "run/.containerenv")
    for number in (2, 3):
        (fake.root / f"dev/nvidia{number}").unlink()
    (fake.root / "dev/nvidia-modeset").unlink()
    result = examined(fake.root, "gpu-usable")
    assert (result.status, codes(result)) == ("ok", ["CDG-H103", "CDG-H103"])
    assert examined(fake.root, "missing-nodes").status == "ok"
    (fake.root / "dev/nvidia-uvm").unlink()
    (finding,) = examined(fake.root, "missing-nodes").findings
    assert "this container has no /dev/nvidia-uvm" in finding.message
