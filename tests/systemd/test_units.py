# SPDX-License-Identifier: Apache-2.0
"""The units and the udev rule by themselves, as systemd and udev understand them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cdi_gen.programs.host_files import QUADLETS
from tests.systemd.conftest import SUITES, UNITS, BootHost

DOCUMENT = UNITS.parent / "docs/units.md"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
EXPOSURE = {
    "cdi-gen.service": 2.0,
    "cdi-gen-watch.service": 2.0,
    "cdi-gen-driver.service": 2.0,
    # It looks at the processes of all users, as no user (docs/units.md).
    "cdi-gen-metrics.service": 2.7,
    # It creates device nodes, and loads modules on request (docs/units.md).
    "cdi-gen-device-nodes.service": 3.1,
}
"""The highest score of `systemd-analyze security` that a unit may have."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that exists and without their manual pages."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd")
    for path in UNITS.rglob("*"):
        if path.suffix in {".service", ".path", ".conf"} and path.parent.name not in QUADLETS:
            text = path.read_text().replace("@BINDIR@/cdi-gen", "/bin/true")
            target = tmp_path / path.relative_to(UNITS)
            target.parent.mkdir(exist_ok=True)
            target.write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    return tmp_path


def test_systemd_understands_the_units(units: Path) -> None:
    files = [str(path) for path in units.iterdir() if path.suffix in {".service", ".path"}]
    assert len(files) == 6
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *files],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if "Failed to" in verified.stderr:
        pytest.skip(verified.stderr.strip())
    assert [line for line in verified.stderr.splitlines() if "cdi-gen" in line] == []


def test_a_mistake_in_a_unit_is_reported(units: Path) -> None:
    """The control of the test above."""
    unit = units / "cdi-gen.service"
    unit.write_text(unit.read_text().replace("UMask=0022", "UMaks=0022"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if "Failed to" in verified.stderr:
        pytest.skip(verified.stderr.strip())
    assert "UMaks" in verified.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_the_exposure_of_each_service_is_low(units: Path, service: str) -> None:
    assert exposure_of(units / service) <= EXPOSURE[service]


def exposure_of(unit: Path) -> float:
    analysed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if "unrecognized option" in analysed.stderr:
        pytest.skip("systemd before 250")
    match = re.search(r"exposure level for \S+: (\d+\.\d)", analysed.stdout)
    assert match, analysed.stderr
    return float(match[1])


def test_the_exposure_with_the_privileged_drop_in_is_the_documented_one(units: Path) -> None:
    drop_in = units / "cdi-gen.service.d/privileged.conf"
    drop_in.write_text((UNITS / "cdi-gen-privileged.conf").read_text())
    (exposure,) = re.findall(r"exposure is then (\d\.\d)", DOCUMENT.read_text())
    assert abs(exposure_of(units / "cdi-gen.service") - float(exposure)) <= 0.2


@pytest.mark.parametrize("service", SERVICES)
def test_no_unit_depends_on_a_service_that_nothing_starts(service: str) -> None:
    text = (UNITS / service).read_text()
    dependencies = re.findall(r"^(?:After|Wants|Requires)=(.*)$", text, re.MULTILINE)
    assert "systemd-udev-settle" not in " ".join(dependencies)
    assert "Condition" not in text, "a condition that fails is not looked at again"


@pytest.mark.engine
@pytest.mark.host
def test_the_udev_rule(boot_host: BootHost, suite: str) -> None:
    """`udevadm test` on devices of this machine, with their names in place of NVIDIA's."""
    rule = "/usr/lib/udev/rules.d/90-cdi-gen.rules"
    with boot_host() as host:
        if suite == SUITES[0]:  # since systemd 254
            assert "Success: 1" in host.run("udevadm", "verify", rule).stdout
        module = host.sh("ls /sys/module | head -n 1").strip()
        host.sh(f"sed -i 's/nvidia|nvidia_current|nvidia_uvm|nvidia_modeset/{module}/; "
                f"s/nvidia|nvidia_current/{module}/' {rule}")  # fmt: skip

        def result(action: str, device: str) -> str:
            return host.run("udevadm", "test", "--action", action, device, check=False).stdout

        added = result("add", f"/sys/module/{module}")
        assert "SYSTEMD_WANTS=cdi-gen.service" in added
        assert "TAGS=:systemd:" in added
        removed = result("remove", f"/sys/module/{module}")
        assert "systemctl --no-block start cdi-gen.service" in removed
        other = host.sh("ls /sys/module | tail -n 1").strip()
        assert "cdi-gen.service" not in result("add", f"/sys/module/{other}")

        device = host.sh("ls -d /sys/devices/pci*/*:*.* 2>/dev/null | head -n 1").strip()
        if not device:
            pytest.skip("this machine has no PCI device")
        values = dict(line.partition("=")[::2] for line in host.sh(f"cat {device}/uevent").split())
        vendor = values["PCI_ID"].partition(":")[0]
        assert "cdi-gen.service" not in result("bind", device)
        host.sh(f"sed -i 's/10DE:/{vendor}:/; s/30000|30200/{values['PCI_CLASS']}/' {rule}")
        for action in ("bind", "unbind", "remove"):
            assert "systemctl --no-block start cdi-gen.service" in result(action, device)
