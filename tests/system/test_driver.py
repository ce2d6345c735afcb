# SPDX-License-Identifier: Apache-2.0
"""Waiting for a driver that is loaded late."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen.host.roots import Root
from cdi_gen.system import driver
from tests.cli.program import cdi_gen
from tests.system.machine import MIG, machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")

RELEASE = "6.12.38+deb13-amd64"
LONG = 60.0


@pytest.fixture
def booting(tmp_path: Path) -> Path:
    """A machine with GPUs, whose module is installed and not loaded."""
    gpus = tuple(replace(gpu, drm_card=None, drm_render=None) for gpu in MIG.gpus)
    root = machine(tmp_path / "host", replace(MIG, loaded=False, gpus=gpus))
    install(root, "extra/nvidia.ko.xz: extra/ecc.ko.xz")
    return root


def install(root: Path, line: str) -> None:
    path = root / f"lib/modules/{RELEASE}/modules.dep"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko\n{line}\n")


def load(root: Path, state: str = "live") -> None:
    version = root / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True, exist_ok=True)
    version.write_text("NVRM version: 550\n")
    initstate = root / "sys/module/nvidia/initstate"
    initstate.parent.mkdir(parents=True, exist_ok=True)
    initstate.write_text(f"{state}\n")


def wait(root: Path, *steps: Callable[[], object]) -> bool:
    """Wait for the driver; each pause is the next step instead."""
    pending = [*steps]

    def sleep(_seconds: float) -> None:
        if pending:
            pending.pop(0)()
        else:
            time.sleep(0.01)

    return driver.wait(Root(seen_from=str(root)), LONG if steps else 0.05, sleep=sleep)


def test_a_driver_that_is_loaded_late(booting: Path) -> None:
    assert wait(booting, lambda: None, lambda: load(booting))


def test_a_module_that_is_still_looking_for_gpus_is_not_ready(booting: Path) -> None:
    """nvidia creates /proc/driver/nvidia/version before it initialises the first GPU."""
    load(booting, "coming")
    assert not driver.is_ready(Root(seen_from=str(booting)))
    assert wait(booting, lambda: None, lambda: load(booting))


def test_a_driver_that_never_comes(booting: Path) -> None:
    assert not wait(booting)


@pytest.mark.parametrize(
    ("line", "is_expected"),
    [
        ("extra/nvidia.ko.xz:", True),
        ("updates/dkms/nvidia-current.ko:", True),
        ("updates/dkms/nvidia-tesla-470.ko.zst:", True),
        ("kernel/drivers/video/fbdev/nvidia/nvidiafb.ko:", False),
        ("updates/dkms/nvidia-current-uvm.ko:", False),
        ("kernel/drivers/usb/typec/altmodes/typec_nvidia.ko:", False),
    ],
)
def test_a_driver_is_expected_if_its_module_is_installed(
    booting: Path, line: str, is_expected: bool
) -> None:
    install(booting, line)
    assert driver.is_expected(Root(seen_from=str(booting))) is is_expected


@pytest.mark.parametrize(
    ("bound_to", "is_expected"), [("vfio-pci", False), ("nouveau", False), ("nvidia", True)]
)
def test_gpus_of_another_driver_are_not_waited_for(
    booting: Path, bound_to: str, is_expected: bool
) -> None:
    (booting / f"sys/bus/pci/drivers/{bound_to}").mkdir(parents=True)
    for gpu in MIG.gpus:
        link = (booting / "sys/bus/pci/devices" / gpu.pci_address).resolve() / "driver"
        link.symlink_to(f"/sys/bus/pci/drivers/{bound_to}")
    assert driver.is_expected(Root(seen_from=str(booting))) is is_expected


def test_a_host_without_a_gpu_is_not_delayed(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", replace(MIG, loaded=False, gpus=()))
    install(root, "extra/nvidia.ko.xz:")
    started = time.monotonic()
    result = cdi_gen("system", "wait-driver", "--timeout", "25", "--host-root", str(root))
    assert time.monotonic() - started < 20
    assert result.code == 3
    assert "no NVIDIA driver is loaded, and none is expected" in result.err


def test_the_command(booting: Path) -> None:
    words = ("system", "wait-driver", "--host-root", str(booting), "--timeout", "0.1")
    result = cdi_gen(*words)
    assert result.code == 3
    assert "is expected and was not loaded in 0.1 s" in result.err
    load(booting)
    assert cdi_gen(*words) == (0, "", "")
