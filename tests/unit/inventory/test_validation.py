# SPDX-License-Identifier: Apache-2.0
"""An inventory that no host can have is refused, and the place of the fault is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.generate import generate
from cdi_gen.inventory import HookProgram, Inventory, json_form
from cdi_gen.inventory.validation import require
from cdi_gen.paths import HostPath
from tests.host.looking import REPOSITORY

GOLDEN = REPOSITORY / "specs/golden"


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    text = (GOLDEN / "flat-550-mig-mixed/inventory.json").read_text(encoding="utf-8")
    return json_form.load(text)


def gpu(**changes: Any) -> Any:
    return lambda each: {"gpus": (replace(each.gpus[0], **changes), *each.gpus[1:])}


def node(**changes: Any) -> Any:
    return lambda each: {"control_nodes": (replace(each.control_nodes[0], **changes),)}


def library(**changes: Any) -> Any:
    return lambda each: {"libraries": (replace(each.libraries[0], **changes),)}


def mig(**changes: Any) -> Any:
    return lambda each: {"mig_devices": (replace(each.mig_devices[0], **changes),)}


def file(**changes: Any) -> Any:
    return lambda each: {"files": (replace(each.files[0], **changes),)}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda _: {"driver_root": "run/driver"}, ".driverRoot"),
        (lambda _: {"driver_root": ""}, ".driverRoot"),
        (lambda _: {"dev_root": "/run/../dev"}, ".devRoot"),
        (lambda _: {"architecture": "../x86_64"}, ".architecture"),
        (gpu(index=-1), ".gpus[0].index"),
        (gpu(index=1 << 32), ".gpus[0].index"),
        (gpu(uuid="GPU/0"), ".gpus[0].uuid"),
        (gpu(uuid=""), ".gpus[0].uuid"),
        (gpu(pci_address="../0000"), ".gpus[0].pciAddress"),
        (gpu(pci_address="0000:00:00.0\n"), ".gpus[0].pciAddress"),
        (gpu(pci_address="zz"), ".gpus[0].pciAddress"),
        (gpu(pci_address="0000:00::00.0"), ".gpus[0].pciAddress"),
        (mig(uuid="MIG-GPU-a/1/0"), ".migDevices[0].uuid"),
        (mig(gpu_index=-1), ".migDevices[0].gpuIndex"),
        (mig(gpu_instance=-1), ".migDevices[0].gpuInstance"),
        (mig(compute_instance=1 << 32), ".migDevices[0].computeInstance"),
        (node(path="dev/nvidiactl"), ".controlNodes[0]"),
        (node(path="/dev/../etc/shadow"), ".controlNodes[0]"),
        (node(path="/dev//x"), ".controlNodes[0]"),
        (node(path="/"), ".controlNodes[0]"),
        (node(path="/dev/x\n"), ".controlNodes[0]"),
        (node(major=-195), ".controlNodes[0]"),
        (node(major=0), ".controlNodes[0]: the major number of /dev/nvidiactl is 0"),
        (node(minor=1 << 40), ".controlNodes[0]"),
        (node(gid=-1), ".controlNodes[0]"),
        (node(file_mode=0o10000), ".controlNodes[0]"),
        (library(path="libcuda.so.1"), ".libraries[0].path"),
        (library(path="/usr/lib/\udcff"), ".libraries[0].path"),
        (library(path="/usr/lib/a::/b"), ".libraries[0].path"),
        (library(path="/usr/lib/-v"), ".libraries[0].path"),
        (library(path="/usr/lib/" + 300 * "x"), ".libraries[0].path"),
        (library(bits=16), ".libraries[0].bits"),
        (library(aliases=("/usr/lib/a,b",)), ".libraries[0]: an alias"),
        (library(soname="a/b"), ".libraries[0]: a name"),
        (library(soname=".."), ".libraries[0]: a name"),
        (library(links=("a::b",)), ".libraries[0]: a name"),
        (library(links=("--folder",)), ".libraries[0]: a name"),
        (library(aliases=("x",)), ".libraries[0]: an alias"),
        (file(path=""), ".files[0].path"),
        (file(path="/usr/bin/nvidia smi"), ".files[0].path"),
        (file(seen_at="/usr/bin/"), ".files[0].seenAt"),
        (lambda _: {"hook": HookProgram(path=HostPath("cdi-gen-hook"))}, ".hook.path"),
    ],
)
def test_what_is_refused(inventory: Inventory, change: Any, where: str) -> None:
    changed = replace(inventory, **change(inventory))
    with pytest.raises(CdiGenError, match="inventory is invalid") as caught:
        generate(changed)
    assert where in caught.value.message
    assert "cdi-gen inventory" in str(caught.value.hint)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/inventory.json")), ids=str)
def test_real_hosts_are_sound(path: Any) -> None:
    require(json_form.load(path.read_text(encoding="utf-8")))


def test_two_devices_of_one_name(inventory: Inventory) -> None:
    first, *others = inventory.gpus
    for twin in (
        replace(first, uuid="GPU-other"),
        replace(first, index=5, uuid="0", pci_address="0000:99:00.0"),
        replace(first, index=5, uuid="all", pci_address="0000:99:00.0"),
    ):
        with pytest.raises(CdiGenError, match="two devices with the name"):
            generate(replace(inventory, gpus=(first, twin, *others)))
