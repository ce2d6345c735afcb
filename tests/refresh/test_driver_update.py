# SPDX-License-Identifier: Apache-2.0
"""A driver update from 535 to 550: specs before, while libraries and module disagree, and after."""

from __future__ import annotations

from tests.refresh.machine import DriverUpdate, Machine

Updating = tuple[Machine, DriverUpdate]


def _mounts(machine: Machine, version: str) -> bool:
    return f"libcuda.so.{version}".encode() in machine.gpus.read_bytes()


def test_specs_are_those_of_the_loaded_driver_before_and_after(driver_update: Updating) -> None:
    machine, update = driver_update
    old_version = machine.fake.driver_version
    assert machine.refresh().code == 0
    assert old_version.startswith("535.")
    assert _mounts(machine, old_version)
    assert machine.check() == []
    update.install_libraries()
    update.remove_old_libraries()
    update.install_files()
    update.load_module()
    differences = machine.check()
    gone = f"/usr/lib/x86_64-linux-gnu/libcuda.so.{old_version} does not exist"
    assert f"{machine.gpus}: {gone} [CDG-V102]" in differences
    assert any(
        f"are of driver {old_version}, the loaded driver is 550" in line for line in differences
    )
    refreshed = machine.refresh()
    assert (refreshed.code, refreshed.written) == (0, ("nvidia.json", "nvidia-cap.json"))
    assert _mounts(machine, "550.163.01")
    assert old_version.encode() not in machine.gpus.read_bytes()
    assert machine.check() == []
    assert machine.refresh() == (0, (), (), (), "")


def test_specs_are_held_back_while_the_old_module_is_loaded(driver_update: Updating) -> None:
    machine, update = driver_update
    machine.refresh()
    before = machine.contents()
    update.install_libraries()
    update.remove_old_libraries()
    update.install_files()
    refreshed = machine.refresh()
    assert refreshed.code == 5
    assert "the specs stay as they are: the libraries are 550.163.01" in refreshed.message
    assert f"the loaded kernel module is {machine.fake.driver_version}" in refreshed.message
    assert machine.contents() == before
    code, differences, _ = machine.report()
    assert code == 5
    assert any("the libraries are 550.163.01" in line for line in differences)
    # Again and again, until the module is loaded.
    assert machine.refresh(force=True).code == 5
    update.load_module()
    assert machine.refresh().code == 0
    assert machine.check() == []


def test_no_spec_has_half_of_the_libraries(driver_update: Updating) -> None:
    """The first package is unpacked: libcuda is the old one still, libnvidia-ml the new one."""
    machine, update = driver_update
    machine.refresh()
    before = machine.contents()
    update.install_libraries("libnvidia-ml", "libnvidia-ptxjitcompiler")
    update.remove_old_libraries("libnvidia-ml", "libnvidia-ptxjitcompiler")
    refreshed = machine.refresh()
    assert refreshed.code == 5
    assert "2 libraries of the loaded kernel module 535." in refreshed.message
    assert "libraries of 550.163.01 are being installed" in refreshed.message
    assert machine.contents() == before


def test_removing_a_package_of_the_same_driver_is_no_update(driver_update: Updating) -> None:
    machine, update = driver_update
    machine.refresh()
    assert b"libnvidia-opencl" in machine.gpus.read_bytes()
    update.remove_old_libraries("libnvidia-opencl")
    assert machine.refresh().written == ("nvidia.json", "nvidia-cap.json")
    assert b"libnvidia-opencl" not in machine.gpus.read_bytes()


def test_two_drivers_side_by_side_are_no_update(driver_update: Updating) -> None:
    """The other driver was there before: a removed package is what it seems to be."""
    machine, update = driver_update
    update.install_libraries()
    machine.refresh()
    update.remove_old_libraries("libnvidia-opencl")
    assert machine.refresh().code == 0


def test_without_a_last_good_state_a_split_driver_is_an_error(driver_update: Updating) -> None:
    machine, update = driver_update
    update.install_libraries()
    update.remove_old_libraries()
    refreshed = machine.refresh()
    assert refreshed.code == 1
    assert "the driver is split" in refreshed.message
    assert not machine.specs.exists()


def test_specs_that_were_removed_are_no_good_state(driver_update: Updating) -> None:
    machine, update = driver_update
    machine.refresh()
    update.install_libraries()
    update.remove_old_libraries()
    machine.gpus.unlink()
    machine.capabilities.unlink()
    assert machine.refresh().code == 1


def test_an_unloaded_module_ends_the_specs(driver_update: Updating) -> None:
    machine, update = driver_update
    machine.refresh()
    update.unload_module()
    code, differences, _ = machine.report()
    assert code == 5
    assert differences == [
        f"{path}: no NVIDIA driver is loaded on this host [CDG-V101]"
        for path in (machine.capabilities, machine.gpus)
    ]
    assert machine.refresh() == (3, (), ("nvidia.json", "nvidia-cap.json"), (), "")
    assert machine.contents() == {}
    assert machine.refresh().code == 3
    assert machine.report() == (3, [], [])
    update.load_module()
    update.install_libraries()
    assert machine.refresh().code == 0
