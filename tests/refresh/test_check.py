# SPDX-License-Identifier: Apache-2.0
"""`check` on fake hosts: specs that nvidia-ctk wrote for them, and specs of a refresh."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.refresh import host_facts
from tests.cli.program import CHECKOUT
from tests.refresh.machine import Machine, in_fork

NVIDIA = CHECKOUT / "tests/parity/reference/nvidia_ctk"
HOOK = "usr/bin/nvidia-cdi-hook"

Machines = Callable[[str], Machine]


def with_spec(machine: Machine, name: str) -> Path:
    """Install a spec of nvidia-ctk, and the hook that it names."""
    machine.specs.mkdir(exist_ok=True)
    (machine.root / HOOK).touch(mode=0o755)
    return Path(shutil.copy(NVIDIA / f"{name}.json", machine.specs / "nvidia.json"))


@pytest.mark.parametrize(
    ("spec", "host"),
    [
        ("1gpu", "550-1gpu"),
        ("8gpu", "550-8gpu"),
        ("nohooks", "550-8gpu"),
        ("uuid-only", "550-8gpu"),
        ("debian", "550-debian"),
        ("hgx", "550-hgx"),
        ("mig", "550-mig56"),
    ],
)
def test_a_spec_of_nvidia_for_this_host_is_fresh(machine: Machines, spec: str, host: str) -> None:
    installed = machine(host)
    with_spec(installed, spec)
    assert installed.report() == (0, [], [])


def test_a_spec_of_nvidia_after_a_change_of_the_host(machine: Machines) -> None:
    installed = machine("550-8gpu")
    path = with_spec(installed, "8gpu")
    version = installed.fake.driver_version
    library = f"/usr/lib/x86_64-linux-gnu/libcuda.so.{version}"
    (installed.root / library.lstrip("/")).unlink()
    (installed.root / HOOK).unlink()
    (installed.root / "dev/nvidia-uvm").unlink()
    address = sorted(os.listdir(installed.root / "proc/driver/nvidia/gpus"))[7]
    shutil.rmtree(installed.root / f"proc/driver/nvidia/gpus/{address}")
    assert installed.check() == [
        f"{path}: {library} does not exist [CDG-V102]",
        f"{path}: the hook program /{HOOK} does not exist [CDG-V103]",
        f"{path}: the device node /dev/nvidia-uvm does not exist [CDG-V105]",
        f"{path}: nvidia.com/gpu=7: this host has no GPU /dev/nvidia7 [CDG-V107]",
        f"{path}: nvidia.com/gpu=GPU-ab100007-c0de-4007-8007-000000001007: this host has no GPU /dev/nvidia7 [CDG-V107]",
        f"{path}: nvidia.com/gpu=all: this host has no GPU /dev/nvidia7 [CDG-V107]",
    ]


def test_a_spec_for_fewer_gpus(machine: Machines) -> None:
    installed = machine("550-8gpu")
    with_spec(installed, "1gpu")
    assert [line.partition(" at ")[0] for line in installed.check()] == [
        f"no spec has a device for GPU {number}" for number in range(1, 8)
    ]


def test_a_spec_with_a_mig_layout_of_before(machine: Machines) -> None:
    installed = machine("550-mig56")
    with_spec(installed, "mig")
    instances = installed.root / "proc/driver/nvidia/capabilities/gpu0/mig"
    (instances / "gi7").rename(instances / "gi1")
    access = instances / "gi1/ci0/access"
    access.write_text(access.read_text().replace("DeviceFileMinor: ", "DeviceFileMinor: 9"))
    differences = installed.check()
    assert any("has no MIG device with nvidia-cap" in line for line in differences)
    assert any("no spec has a device for the MIG device 1/0" in line for line in differences)


def test_nvml_is_not_loaded(machine: Machines) -> None:
    """Neither if nothing has changed, nor if the specs are compared with the host."""
    flat = machine("550-8gpu")
    flat.refresh()

    def maps() -> tuple[list[str], list[str]]:
        differences = flat.check_here()
        files = Path("/proc/self/maps").read_text().splitlines()
        # An earlier test may have loaded the library of its own host into this process.
        return differences, [line for line in files if str(flat.root) in line]

    for change in ("nothing", "the loader's cache"):
        if change != "nothing":
            os.utime(flat.root / "etc/ld.so.cache")
            assert not flat.is_fast()
        differences, mapped = in_fork(maps)
        assert differences == [], change
        assert not [line for line in mapped if "libnvidia-ml" in line], change


@pytest.mark.parametrize(
    "name", ["550-mig-mixed", "550-operator", "550-nixos", "550-lib64", "550-server"]
)
def test_a_refreshed_host_is_fresh(machine: Machines, name: str) -> None:
    """Also if the whole host has to be compared."""
    installed = machine(name)
    root = str(installed.fake.driver_root.relative_to(installed.root))
    installed.driver_root = f"/{root}" if root != "." else "/"
    assert installed.refresh().code in {0, 4}
    assert installed.check() == []
    # Files of the driver are hard links into the cache.
    cache = str(installed.fake.driver_root.relative_to(installed.root) / "etc/ld.so.cache")
    if (installed.root / cache).exists():
        installed.own_copy(cache)
    os.utime(installed.gpus)
    assert installed.check() == []


def test_a_file_that_the_user_may_not_see_is_not_missing(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "secret").mkdir(mode=0o700)
    (tmp_path / "secret/libcuda.so.1").touch()
    paths = ["/secret/libcuda.so.1", "/missing/libcuda.so.1"]

    def paths_for_a_user() -> frozenset[str]:
        above = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        return host_facts.read(paths, f"/proc/self/fd/{above}").paths

    assert in_fork(paths_for_a_user) == {paths[0]}
