# SPDX-License-Identifier: Apache-2.0
"""What a refresh writes, keeps and removes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakehost import hosts, nvml_mock
from tests.fakehost.gpus import A100, gpu, split
from tests.fakehost.hosts import FakeHost
from tests.refresh.machine import Machine

Machines = Callable[[str], Machine]


@pytest.fixture
def flat(machine: Machines) -> Machine:
    return machine("550-flat")


def _add_library(machine: Machine, name: str) -> None:
    """Install a library of the same driver, and run no ldconfig."""
    directory = machine.root / "usr/lib/x86_64-linux-gnu"
    version = machine.fake.driver_version
    shutil.copy(directory / f"libnvidia-opencl.so.{version}", directory / f"{name}.so.{version}")


def test_a_second_refresh_does_nothing(flat: Machine) -> None:
    assert flat.refresh() == (0, ("nvidia.json", "nvidia-cap.json"), (), (), "")
    before = {path: path.stat() for path in flat.specs.iterdir()}
    assert flat.is_fast()
    assert flat.refresh() == (0, (), (), (), "")
    assert {path: path.stat() for path in flat.specs.iterdir()} == before


def test_only_what_changed_is_written(flat: Machine) -> None:
    flat.refresh()
    (flat.root / "dev/nvidia1").unlink()
    (flat.root / "proc/driver/nvidia/gpus/0000:1e:00.0/information").unlink()
    (flat.root / "proc/driver/nvidia/gpus/0000:1e:00.0/power").unlink()
    shutil.rmtree(flat.root / "proc/driver/nvidia/gpus/0000:1e:00.0")
    refreshed = flat.refresh()
    assert refreshed == (0, ("nvidia.json",), (), (), "")
    assert flat.check() == []


def test_a_file_of_the_driver_is_seen_without_ldconfig(flat: Machine) -> None:
    flat.refresh()
    _add_library(flat, "libnvidia-new")
    new = f"/usr/lib/x86_64-linux-gnu/libnvidia-new.so.{flat.fake.driver_version}"
    assert f"{flat.gpus}: + file {new} [CDG-V111]" in flat.check()
    assert flat.refresh().written == ("nvidia.json",)
    assert new.encode() in flat.gpus.read_bytes()
    assert flat.check() == []


def test_a_backup_with_hard_links_is_no_change(flat: Machine) -> None:
    flat.refresh()
    library = next(flat.root.glob("usr/lib/x86_64-linux-gnu/libcuda.so.*.*"))
    os.link(library, flat.folder / "backup")
    assert flat.is_fast()


def test_an_unrelated_change_writes_nothing(flat: Machine) -> None:
    """Any package runs ldconfig: the host has to be looked at, and is the same."""
    flat.refresh()
    cache = flat.root / "etc/ld.so.cache"
    content = cache.read_bytes()
    cache.unlink()
    cache.write_bytes(content)
    assert not flat.is_fast()
    assert flat.check() == []
    assert flat.refresh() == (0, (), (), (), "")
    assert flat.is_fast()


def test_a_file_that_was_edited_is_written_again(flat: Machine) -> None:
    flat.refresh()
    right = flat.contents()
    flat.gpus.write_text("{}")
    assert f"{flat.gpus}: the content was changed since the last refresh [CDG-V110]" in flat.check()
    assert flat.refresh().written == ("nvidia.json",)
    assert flat.contents() == right
    flat.capabilities.unlink()
    assert f"{flat.capabilities}: the file is missing [CDG-V110]" in flat.check()
    assert flat.refresh().written == ("nvidia-cap.json",)
    assert flat.contents() == right


def test_specs_that_are_not_true_any_more_are_removed(
    machine: Machines, own_host: Callable[[str], FakeHost]
) -> None:
    hgx = machine("550-hgx")
    modes = ("auto", "cap", "gds", "imex", "nvswitch")
    refreshed = hgx.refresh(modes=modes)
    assert refreshed.written == (
        "nvidia.json", "nvidia-cap.json", "nvidia-gds.json", "nvidia-imex.json", "nvidia-nvswitch.json",
    )  # fmt: skip
    shutil.rmtree(hgx.root / "dev/nvidia-caps-imex-channels")
    refreshed = hgx.refresh(modes=modes)
    assert refreshed == (0, (), ("nvidia-imex.json",), (), "")
    # Neither does a mode that is not configured any more.
    assert hgx.refresh(modes=("auto", "cap", "gds")).removed == ("nvidia-nvswitch.json",)
    assert hgx.refresh(modes=("auto",)).removed == ("nvidia-cap.json", "nvidia-gds.json")
    assert sorted(hgx.contents()) == ["nvidia.json"]


def test_files_of_others_stay(flat: Machine) -> None:
    flat.specs.mkdir()
    other = flat.specs / "vendor.json"
    other.write_text(json.dumps({"cdiVersion": "0.5.0", "kind": "vendor.com/net", "devices": []}))
    temporary = flat.specs / ".cdi-gen-0123456789abcdef.tmp"
    temporary.write_text("of cdi-gen generate, which is running")
    flat.refresh()
    flat.refresh(modes=("cap",))
    shutil.rmtree(flat.root / "proc/driver")
    assert flat.refresh().removed == ("nvidia-cap.json",)
    assert sorted(flat.contents()) == [".cdi-gen-0123456789abcdef.tmp", "vendor.json"]


def test_a_file_that_another_program_has_changed_is_not_removed(flat: Machine) -> None:
    flat.refresh()
    flat.capabilities.write_text(flat.capabilities.read_text() + " ")
    refreshed = flat.refresh(modes=("auto",))
    assert refreshed == (0, (), (), ("nvidia-cap.json",), "")
    assert flat.capabilities.exists()
    # It is not ours any more.
    assert flat.refresh(force=True, modes=("auto",)).foreign == ()


def test_another_file_with_the_same_devices_stops_the_refresh(flat: Machine) -> None:
    """Engines would resolve none of the devices."""
    flat.specs.mkdir()
    nvidia = flat.specs / "nvidia.yaml"
    nvidia.write_bytes(Path("tests/parity/reference/nvidia_ctk/1gpu.json").read_bytes())
    refreshed = flat.refresh()
    assert refreshed.code == 1
    assert refreshed.message.startswith(f"{nvidia} defines nvidia.com/gpu=0 too")
    assert os.listdir(flat.specs) == ["nvidia.yaml"]
    nvidia.rename(flat.folder / "aside")
    assert flat.refresh().code == 0
    (flat.folder / "aside").rename(nvidia)
    (conflict, *_) = flat.check()
    assert conflict.startswith("nvidia.com/gpu=0 and ")
    assert conflict.endswith(f"a device that {flat.gpus} and {nvidia} define [CDG-F102]")


def test_a_file_of_another_kind_is_not_overwritten(flat: Machine) -> None:
    flat.specs.mkdir()
    text = json.dumps(
        {
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu-sharing",
            "devices": [{"name": "0", "containerEdits": {"env": ["A=1"]}}],
        }
    )
    flat.gpus.write_text(text)
    refreshed = flat.refresh()
    assert refreshed.code == 1
    assert "is a spec of nvidia.com/gpu-sharing, and not replaced" in refreshed.message
    assert flat.gpus.read_text() == text


def test_a_file_of_generate_is_taken_over(flat: Machine) -> None:
    """The unit of earlier versions wrote it."""
    flat.refresh()
    right = flat.contents()
    shutil.rmtree(flat.state)
    flat.gpus.write_bytes(flat.gpus.read_bytes().replace(b'"0.5.0"', b'"0.6.0"', 1))
    assert flat.refresh().written == ("nvidia.json",)
    assert flat.contents() == right
    shutil.rmtree(flat.root / "proc/driver")
    assert flat.refresh().removed == ("nvidia.json", "nvidia-cap.json")


def test_a_broken_gpu_is_not_the_same_as_nothing_to_do(machine: Machines) -> None:
    broken = machine("550-broken")
    refreshed = broken.refresh()
    assert refreshed.code == 4
    names = {device["name"] for device in json.loads(broken.gpus.read_bytes())["devices"]}
    assert {"0", "4", "all"} <= names
    assert not names & {"1", "2", "3"}
    # A GPU may work again, and only NVML knows: every refresh looks.
    assert broken.refresh() == (4, (), (), (), "")
    code, differences, notes = broken.report()
    assert (code, differences) == (0, [])
    assert "left out by the last refresh: GPU 1 at 0000:1e:00.0 [CDG-V112]" in notes


def test_without_a_gpu_there_is_nothing_to_do(machine: Machines) -> None:
    idle = machine("550-nogpu")
    assert idle.refresh() == (3, (), (), (), "")
    assert idle.refresh() == (3, (), (), (), "")
    assert not idle.specs.exists()


def test_without_a_driver_no_file_is_created(machine: Machines) -> None:
    unloaded = machine("550-unloaded")
    assert unloaded.refresh() == (3, (), (), (), "")
    assert not unloaded.state.exists()
    assert not unloaded.specs.exists()


def test_a_change_of_mig_devices(
    machine: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One of two A100 is divided, then divided in another way, then whole again."""
    layouts = {
        "whole": (gpu(0, A100), gpu(1, A100)),
        "seven": (gpu(0, A100), split(1)),
        "one": (gpu(0, A100), replace(split(1), mig=split(1).mig[:1])),
    }
    for name, gpus in layouts.items():
        host = hosts.Host(driver="550-full", gpus=gpus)
        monkeypatch.setitem(hosts.HOSTS, name, host)
        hosts.build(name, tmp_path / f"mig-{name}")
    divided = machine("whole")

    def become(name: str) -> None:
        for part in ("proc", "sys", "dev"):
            shutil.rmtree(divided.root / part)
            (tmp_path / f"mig-{name}" / part).rename(divided.root / part)
        answers = divided.fake.nvml.with_name(nvml_mock.DESCRIPTION)
        shutil.copy(tmp_path / f"mig-{name}" / answers.relative_to(divided.root), answers)

    def names() -> set[str]:
        return {device["name"] for device in json.loads(divided.gpus.read_bytes())["devices"]}

    divided.refresh()
    assert {"0", "1"} <= names()
    become("seven")
    differences = divided.check()
    assert any("nvidia.com/gpu=1: the GPU /dev/nvidia1 is divided" in line for line in differences)
    assert any("no spec has a device for the MIG device 7/0" in line for line in differences)
    assert divided.refresh().written == ("nvidia.json",)
    assert {"0", "1:0", "1:6"} <= names()
    assert "1" not in names()
    assert divided.check() == []
    become("one")
    assert any("no MIG device with nvidia-cap" in line for line in divided.check())
    assert divided.refresh().written == ("nvidia.json",)
    assert "1:1" not in names()
    assert divided.check() == []


def test_missing_nodes_are_created_where_configured(flat: Machine) -> None:
    """The host is examined afterwards: a GPU whose node was missing is in the specs."""
    for name in ("nvidia-uvm", "nvidia1"):
        (flat.root / "dev" / name).unlink()
    assert flat.refresh().code == 4
    assert not (flat.root / "dev/nvidia-uvm").exists()
    refreshed = flat.refresh(device_nodes=True, dev_char_symlinks=True)
    assert refreshed.code == 0
    assert refreshed.written == ("nvidia.json",)
    status = (flat.root / "dev/nvidia-uvm").stat()
    assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (510, 0)
    assert os.readlink(flat.root / "dev/char/195:1") == "/dev/nvidia1"
    assert flat.check() == []
    (flat.root / "dev/nvidia-uvm").unlink()
    flat.refresh(device_nodes=True, dev_char_symlinks=True)
    assert (flat.root / "dev/nvidia-uvm").exists()
