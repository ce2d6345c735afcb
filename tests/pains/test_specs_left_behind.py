# SPDX-License-Identifier: Apache-2.0
"""Specs that are written too early, twice or not at all, and what other toolkits leave behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.doctor.examining import examine, write
from tests.doctor.test_spec_checks import NVIDIA, with_its_spec
from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY
from tests.pains import pain
from tests.pains.following import follow

OwnHost = Callable[[str], FakeHost]

UNITS = ("cdi-gen.service", "cdi-gen-watch.service")
NVIDIAS = ("nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service")

SYSTEMCTL = """
wants=$HOST/etc/systemd/system/multi-user.target.wants
case $1 in
enable) mkdir -p $wants; shift 2
    for unit; do : >$wants/$unit; done
    cdi-gen refresh --force ;;
disable) shift 2; for unit; do rm $wants/$unit; done ;;
esac
"""
"""What systemctl does on a fake host; the unit that is started refreshes the specs."""


def with_units(fake: FakeHost, *enabled: str) -> None:
    """Give a host systemd and the installed units, some of them enabled."""
    (fake.root / "run/systemd/system").mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(
            REPOSITORY / "systemd" / unit, write(fake.root, f"/usr/lib/systemd/system/{unit}")
        )
    order = write(fake.root, "/usr/lib/systemd/system/cdi-gen.service.d/10-engines.conf")
    shutil.copy(REPOSITORY / "systemd/cdi-gen.service.d/10-engines.conf", order)
    for unit in enabled:
        write(fake.root, f"/etc/systemd/system/multi-user.target.wants/{unit}")


def devices_of(root: Path) -> set[str]:
    spec = json.loads((root / "run/cdi/nvidia.json").read_text())
    return {device["name"] for device in spec["devices"]}


@pain(
    3,
    "unresolvable CDI devices nvidia.com/gpu=7 (the spec was written before the driver had "
    "initialised all GPUs)",
    command="cdi-gen doctor specs",
    codes=("CDG-V109", "CDG-A214"),
    simulated=True,
)
def test_a_spec_that_was_written_too_early(own_host: OwnHost) -> None:
    fake = own_host("550-8gpu")
    with_units(fake, *NVIDIAS)
    last = max((fake.root / "proc/driver/nvidia/gpus").iterdir())
    last.rename(fake.root / "proc/late")
    with_its_spec(fake)
    (fake.root / "proc/late").rename(last)
    assert "7" not in devices_of(fake.root)

    assert "GPU 7" in examine(fake, "spec-freshness").finding("CDG-V109").message
    finding = examine(fake, "refresh-units").finding("CDG-A214")
    assert "nvidia-cdi-refresh.service of NVIDIA's toolkit writes the specs" in finding.message

    follow(finding.fix, fake, systemctl=SYSTEMCTL)
    assert examine(fake, "refresh-units").codes == ()
    assert examine(fake, "spec-freshness").codes == ()
    assert "7" in devices_of(fake.root)


@pain(
    4,
    "unresolvable CDI devices nvidia.com/gpu=all (only at boot; later it works)",
    command="cdi-gen doctor boot-order",
    codes=("CDG-A216",),
    simulated=True,
)
def test_engines_that_do_not_wait_for_the_specs(own_host: OwnHost) -> None:
    fake = own_host("550-1gpu")
    with_units(fake, *UNITS)
    assert examine(fake, "boot-order").status == "ok"
    override = write(fake.root, "/etc/systemd/system/cdi-gen.service.d/10-engines.conf")
    # systemd reads the first file of this name only: nothing orders docker.service after ours.
    assert "docker.service" not in override.read_text()

    finding = examine(fake, "boot-order").finding("CDG-A216")
    assert "engines do not wait for the specs" in finding.message

    follow(finding.fix, fake, systemctl="test $1 = daemon-reload")
    assert examine(fake, "boot-order").status == "ok"


@pain(
    6,
    "unresolvable CDI devices nvidia.com/gpu=0:0 (after the MIG layout was changed)",
    command="cdi-gen doctor spec-freshness",
    codes=("CDG-V107", "CDG-V109"),
    simulated=True,
)
def test_a_spec_of_another_mig_layout(own_host: OwnHost) -> None:
    before, fake = own_host("550-8gpu"), own_host("550-mig56")
    spec = with_its_spec(before).read_text()
    with_its_spec(fake).write_text(spec)
    assert "0:0" not in devices_of(fake.root)

    result = examine(fake, "spec-freshness")
    assert "is divided into MIG devices" in result.finding("CDG-V107").message
    assert "no spec has a device for the MIG device" in result.finding("CDG-V109").message

    follow(result.finding("CDG-V109").fix, fake)
    assert examine(fake, "spec-freshness").codes == ()
    assert "0:0" in devices_of(fake.root)


@pain(
    34,
    'level=warning msg="Could not locate libnvidia-vulkan-producer.so.550.163.01: pattern … not found"',
    command="cdi-gen doctor refresh-units",
    codes=("CDG-A213",),
    simulated=True,
)
def test_the_unit_that_writes_warnings_to_the_journal(own_host: OwnHost) -> None:
    fake = own_host("550-8gpu")
    with_units(fake, *UNITS, *NVIDIAS)
    with_its_spec(fake)
    other = write(fake.root, "/run/cdi/nvidia.yaml", (NVIDIA / "8gpu.json").read_text())
    assert examine(fake, "spec-conflicts").status == "fault"

    finding = examine(fake, "refresh-units").finding("CDG-A213")
    assert "the journal has a warning of nvidia-ctk for each library" in finding.message

    follow(finding.fix, fake, systemctl=SYSTEMCTL)
    assert examine(fake, "refresh-units").codes == ()
    assert examine(fake, "spec-conflicts").codes == ()
    assert not other.exists()
