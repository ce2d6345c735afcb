# SPDX-License-Identifier: Apache-2.0
"""Inventories of hosts that no mode serves yet: the format holds them, and `generate` rejects them.

``platforms/*.json`` are written by hand, from the device nodes and files that WSL 2, L4T (JetPack 6)
and vfio-pci have.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.generate import generate
from cdi_gen.generate.device_nodes import by_path_links, gpu_nodes
from cdi_gen.generate.modes import MODULES, find, transports
from cdi_gen.generate.naming import device_names
from cdi_gen.generate.options import Options
from cdi_gen.generate.requirements import facts, hook_options
from cdi_gen.inventory import PLATFORMS, CharDevice, Inventory, json_form
from cdi_gen.inventory.validation import require
from tests.cli.program import cdi_gen, failure
from tests.host.looking import REPOSITORY

HERE = Path(__file__).parent / "platforms"
NAMES = sorted(path.stem for path in HERE.glob("*.json"))


def text_of(name: str) -> str:
    return (HERE / f"{name}.json").read_text(encoding="utf-8")


def inventory_of(name: str) -> Inventory:
    return json_form.load(text_of(name))


def dgpu() -> Inventory:
    path = REPOSITORY / "specs/golden/flat-550-1gpu/inventory.json"
    return json_form.load(path.read_text(encoding="utf-8"))


def test_every_platform_but_the_served_one_has_an_inventory() -> None:
    assert sorted(PLATFORMS.keys() - {"dgpu"}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_inventory_is_loaded_and_dumped_unchanged(name: str) -> None:
    inventory = inventory_of(name)
    assert inventory.platform == name
    assert json_form.dump(inventory) == text_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_inventory_is_valid(name: str) -> None:
    require(inventory_of(name))


def test_devices_lack_what_their_platform_does_not_have() -> None:
    (wsl,) = inventory_of("wsl").gpus
    assert (wsl.minor, wsl.pci_address, wsl.nodes) == (None, None, ())
    (tegra,) = inventory_of("tegra").gpus
    assert (tegra.minor, tegra.pci_address, len(tegra.nodes)) == (None, None, 2)
    (vfio,) = inventory_of("vfio").gpus
    assert (vfio.minor, vfio.iommu_group, inventory_of("vfio").driver) == (None, 42, None)


@pytest.mark.parametrize("mode", [mode for mode in MODULES if mode not in transports.MODES])
@pytest.mark.parametrize("name", NAMES)
def test_generate_rejects_the_platform(name: str, mode: str) -> None:
    with pytest.raises(CdiGenError, match="does not support") as caught:
        find(mode).spec(inventory_of(name), Options())
    assert f"{PLATFORMS[name]} (platform {name})" in caught.value.message
    assert caught.value.exit_code is ExitCode.ERROR
    assert caught.value.hint


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "words", [("generate",), ("generate", "--explain"), ("list",), ("runtime", "prepare", "-o-")]
)
def test_commands_reject_the_platform(name: str, words: tuple[str, ...]) -> None:
    message = failure(cdi_gen(*words, "--inventory", str(HERE / f"{name}.json")), 1)
    assert PLATFORMS[name] in message


@pytest.mark.parametrize("name", NAMES)
def test_transports_are_served_on_every_platform(name: str) -> None:
    """A spec of transports needs neither a GPU nor a driver: a host with vfio-pci has NVSwitches."""
    assert transports.spec("nvswitch", inventory_of(name)) is None
    node = CharDevice(path="/dev/nvidia-nvswitchctl", major=509, minor=255)
    inventory = replace(inventory_of(name), transport_nodes=(node,))
    assert transports.spec("nvswitch", inventory)


def test_a_gpu_without_a_pci_address_has_no_name_by_it() -> None:
    (gpu,) = inventory_of("tegra").gpus
    assert device_names(gpu) == {"index": "0", "type-index": "gpu0"}
    (gpu,) = inventory_of("vfio").gpus
    assert device_names(gpu)["pci"] == "pci-0000-3b-00-0"


def test_a_gpu_without_a_pci_address_has_no_link_by_path() -> None:
    node = CharDevice(path="/dev/dri/card0", major=226, minor=0)
    (gpu,) = inventory_of("tegra").gpus
    assert by_path_links([replace(gpu, drm_nodes=(node,))]) == []


def test_a_gpu_may_have_several_nodes_or_none() -> None:
    (gpu,) = inventory_of("tegra").gpus
    assert [node.path for node in gpu_nodes(gpu)] == ["/dev/nvhost-ctrl-gpu", "/dev/nvhost-as-gpu"]
    (gpu,) = inventory_of("wsl").gpus
    assert gpu_nodes(gpu) == ()


def test_the_hook_is_told_of_no_gpu_without_a_minor_number() -> None:
    """The hook selects the container's GPUs by the minor numbers of their nodes."""
    inventory = inventory_of("wsl")
    assert [word for word in hook_options(inventory) if word.startswith("--gpu")] == []
    assert facts(inventory)["gpus"][0]["minor"] is None


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"minor": None}, ".gpus[0].minor is missing; every GPU of the platform dgpu has it"),
        ({"pci_address": None}, ".gpus[0].pciAddress is missing"),
        ({"nodes": ()}, ".gpus[0].nodes is missing"),
        ({"iommu_group": -1}, ".gpus[0].iommuGroup"),
    ],
)
def test_a_discrete_gpu_has_a_minor_an_address_and_a_node(change: Any, where: str) -> None:
    inventory = dgpu()
    gpus = (replace(inventory.gpus[0], **change),)
    with pytest.raises(CdiGenError) as caught:
        require(replace(inventory, gpus=gpus))
    assert where in caught.value.message


@pytest.mark.parametrize(
    ("name", "change", "where"),
    [
        ("tegra", {"nodes": ()}, ".gpus[0].nodes"),
        ("vfio", {"iommu_group": None}, ".gpus[0].iommuGroup"),
        ("vfio", {"pci_address": None}, ".gpus[0].pciAddress"),
    ],
)
def test_each_platform_has_its_own_rules(name: str, change: Any, where: str) -> None:
    inventory = inventory_of(name)
    with pytest.raises(CdiGenError) as caught:
        require(replace(inventory, gpus=(replace(inventory.gpus[0], **change),)))
    assert f"{where} is missing; every GPU of the platform {name} has it" in caught.value.message


@pytest.mark.parametrize("name", ["wsl", "tegra", "dgpu"])
def test_every_platform_but_vfio_has_a_driver(name: str) -> None:
    inventory = dgpu() if name == "dgpu" else inventory_of(name)
    with pytest.raises(CdiGenError, match=f".driver is missing; the platform {name} has one"):
        require(replace(inventory, driver=None))


def test_an_unknown_platform_is_rejected_with_the_list() -> None:
    with pytest.raises(CdiGenError, match="not one of dgpu, wsl, tegra, vfio"):
        generate(replace(dgpu(), platform="amd"))
