# SPDX-License-Identifier: Apache-2.0
"""Specs of GPUDirect Storage, RDMA cards, GDRCopy, NVSwitches and IMEX channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdi_gen.catalogue import TransportNode, catalogue
from cdi_gen.cdi.model import ContainerEdits, Spec
from cdi_gen.cdi.validation import check
from cdi_gen.errors import CdiGenError, ExitCode, UsageError
from cdi_gen.generate.modes import MODULES, find
from cdi_gen.generate.modes.transports import MODES, no_device_error, spec, transport
from cdi_gen.generate.options import Options
from cdi_gen.inventory import CharDevice, DriverFile, Ignored, Inventory, json_form
from cdi_gen.paths import HostPath
from tests.host.looking import REPOSITORY, driver_of

CHANNELS = "/dev/nvidia-caps-imex-channels"
IMEX = Options(class_="imex-channel")


def of_golden(name: str) -> Inventory:
    path = REPOSITORY / "specs/golden" / name / "inventory.json"
    return json_form.load(path.read_text(encoding="utf-8"))


HGX = of_golden("hgx-550-8gpu")
BARE = of_golden("flat-550-1gpu")


def made(mode: str, inventory: Inventory = HGX, options: Options | None = None) -> Spec:
    found = spec(mode, inventory, options)
    assert found
    assert not [each for each in check(found) if each.severity != "warning"]
    return found


def devices(found: Spec) -> dict[str, ContainerEdits]:
    return {device.name: device.container_edits for device in found.devices}


def paths(edits: ContainerEdits) -> list[str]:
    return [node.path for node in edits.device_nodes]


def with_channels(*numbers: int) -> Inventory:
    nodes = (CharDevice(path=f"{CHANNELS}/channel{n}", major=236, minor=n) for n in numbers)
    return replace(BARE, transport_nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("mode", "kind", "nodes"),
    [
        ("gds", "nvidia.com/gds", [f"/dev/nvidia-fs{n}" for n in range(16)]),
        (
            "mofed",
            "nvidia.com/mofed",
            [*(f"/dev/infiniband/uverbs{n}" for n in range(8)), "/dev/infiniband/rdma_cm"],
        ),
        ("gdrcopy", "nvidia.com/gdrcopy", ["/dev/gdrdrv"]),
        (
            "nvswitch",
            "nvidia.com/nvswitch",
            [*(f"/dev/nvidia-nvswitch{n}" for n in range(4)), "/dev/nvidia-nvswitchctl"],
        ),
    ],
)
def test_all_of_a_mode_is_one_device(mode: str, kind: str, nodes: list[str]) -> None:
    found = made(mode)
    # The type of a mount is of CDI 0.4.0.
    version = "0.4.0" if devices(found)["all"].mounts else "0.3.0"
    assert (found.kind, found.cdi_version) == (kind, version)
    assert [*devices(found)] == ["all"]
    assert paths(devices(found)["all"]) == nodes
    assert found.container_edits == ContainerEdits(env=("NVIDIA_VISIBLE_DEVICES=void",))
    if mode != "gds":
        assert not devices(found)["all"].mounts


def test_gpudirect_storage_has_its_configuration_and_the_names_of_disks() -> None:
    mounts = devices(made("gds"))["all"].mounts
    assert [(each.host_path, each.container_path) for each in mounts] == [
        ("/etc/cufile.json", "/etc/cufile.json"),
        ("/run/udev", "/run/udev"),
    ]
    assert all({"ro", "nosuid", "nodev", "noexec", "rbind"} <= {*each.options} for each in mounts)


def test_a_file_is_where_programs_look_for_it() -> None:
    file = DriverFile(
        path=HostPath("/run/nvidia/driver/opt/gds/cufile.json"),
        seen_at="/etc/cufile.json",
        entry="/etc/cufile.json",
    )
    (mount,) = devices(made("gds", replace(HGX, transport_files=(file,))))["all"].mounts
    assert (mount.host_path, mount.container_path) == (file.path, "/etc/cufile.json")


def test_each_imex_channel_is_a_device() -> None:
    found = made("imex")
    assert (found.kind, found.cdi_version) == ("nvidia.com/imex-channel", "0.5.0")
    assert [*devices(found)] == ["0", "1", "2", "3", "all"]
    for number in range(4):
        assert paths(devices(found)[str(number)]) == [f"{CHANNELS}/channel{number}"]
    assert paths(devices(found)["all"]) == [f"{CHANNELS}/channel{n}" for n in range(4)]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (IMEX._replace(names=("type-index",)), ["channel7", "channel2047", "all"]),
        (IMEX._replace(devices=("7",)), ["7", "all"]),
        (IMEX._replace(devices=("channel7", "7"), all_device=False), ["7"]),
        (IMEX._replace(names=("uuid", "index"), all_device=False), ["7", "2047"]),
    ],
)
def test_names_of_channels(options: Options, names: list[str]) -> None:
    found = made("imex", with_channels(7, 2047), options)
    assert [*devices(found)] == names
    if "all" in names:
        every = [path for name in names if name != "all" for path in paths(devices(found)[name])]
        assert paths(devices(found)["all"]) == every


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("imex", IMEX._replace(devices=("1",))),
        ("imex", IMEX._replace(devices=("none",))),
        ("imex", IMEX._replace(devices=())),
        ("imex", IMEX._replace(names=("uuid",), all_device=False)),
        ("gds", Options(class_="gds", devices=("0",))),
        ("gds", Options(class_="gds", all_device=False)),
        ("gds", Options(class_="g")),
    ],
)
def test_what_can_not_be_asked_for(mode: str, options: Options) -> None:
    inventory = with_channels(0) if mode == "imex" else HGX
    with pytest.raises(UsageError):
        spec(mode, inventory, options)


def test_an_old_engine_takes_channels_by_their_other_name() -> None:
    options = IMEX._replace(newest_version="0.4.0")
    with pytest.raises(CdiGenError, match=r"supports CDI 0\.4\.0 at most") as caught:
        spec("imex", HGX, options)
    assert "type-index" in (caught.value.hint or "")
    assert made("imex", HGX, options._replace(names=("type-index",))).cdi_version == "0.3.0"


def test_the_kind_is_the_users_where_he_names_one() -> None:
    assert made("gds", HGX, Options(vendor="example.org", class_="fs")).kind == "example.org/fs"


def test_no_kind_is_another_modes() -> None:
    """nvidia-ctk calls all of them nvidia.com/gpu=all, and engines then resolve none."""
    kinds = [made(mode).kind for mode in MODES]
    assert len({*kinds, "nvidia.com/gpu", "nvidia.com/cap", "nvidia.com/mig"}) == len(kinds) + 3


@pytest.mark.parametrize("mode", MODES)
def test_a_host_without_it(mode: str) -> None:
    assert spec(mode, BARE) is None
    error = no_device_error(mode, BARE)
    assert error.exit_code is ExitCode.NO_DRIVER
    assert transport(mode).meaning in error.message
    assert "/dev/" in error.message


def test_a_host_with_a_node_that_was_left_tells_why() -> None:
    left = (
        Ignored(path="/x", reason="x", code="CDG-H403"),
        Ignored(path="/dev/gdrdrv", reason="no driver gdrdrv", code="CDG-H302"),
    )
    inventory = replace(BARE, ignored=left)
    assert "/dev/gdrdrv: no driver gdrdrv" in no_device_error("gdrcopy", inventory).message
    assert "no driver" not in no_device_error("gds", inventory).message


@pytest.mark.parametrize("mode", MODES)
def test_neither_a_gpu_nor_a_whole_driver_is_needed(mode: str) -> None:
    """The machine that runs the fabric manager of a partitioned host has no GPU at all."""
    driver = replace(driver_of(HGX), library_version="535.1.1")
    assert spec(mode, replace(HGX, driver=driver, gpus=(), libraries=())) == made(mode)


def test_a_dev_root_and_groups_are_heeded() -> None:
    node = CharDevice(path="/dev/gdrdrv", major=508, minor=0, file_mode=0o660, gid=44)
    inventory = replace(BARE, transport_nodes=(node,), dev_root="/run/nvidia/driver")
    found = devices(made("gdrcopy", inventory, Options(class_="gdrcopy", additional_gids=True)))
    assert found["all"].device_nodes[0].host_path == "/run/nvidia/driver/dev/gdrdrv"
    assert found["all"].additional_gids == (44,)


@pytest.mark.parametrize(
    "node",
    [
        CharDevice(path="/dev/sda", major=8, minor=0),
        CharDevice(path=f"{CHANNELS}/channel01", major=236, minor=1),
        CharDevice(path=f"{CHANNELS}/channel٣", major=236, minor=3),
        CharDevice(path=f"{CHANNELS}/channel99999999", major=236, minor=3),
    ],
)
def test_nothing_else_gets_in_by_an_inventory(node: CharDevice) -> None:
    assert spec("imex", replace(BARE, transport_nodes=(node,))) is None


@pytest.mark.parametrize(
    "change",
    [
        {"path": f"{CHANNELS}/channel1/../../sda"},
        {"major": -1},
        {"minor": 1 << 32},
        {"file_mode": 0o10000},
    ],
)
def test_a_node_of_an_inventory_is_one_that_can_be(change: dict[str, Any]) -> None:
    nodes = (replace(with_channels(1).transport_nodes[0], **change),)
    with pytest.raises(CdiGenError, match="inventory is invalid"):
        spec("imex", replace(BARE, transport_nodes=nodes))


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/etc/../etc/shadow"},
        {"seen_at": "etc/cufile.json"},
    ],
)
def test_a_file_of_an_inventory_has_a_plain_path(change: dict[str, Any]) -> None:
    files = (replace(HGX.transport_files[0], **change),)
    with pytest.raises(CdiGenError, match="inventory is invalid"):
        spec("gds", replace(HGX, transport_files=files))


def test_a_file_that_is_no_transports_is_not_mounted() -> None:
    file = DriverFile(path=HostPath("/etc/shadow"), seen_at="/etc/shadow", entry="/etc/shadow")
    assert not devices(made("gds", replace(HGX, transport_files=(file,))))["all"].mounts


def test_two_nodes_of_one_name_are_refused() -> None:
    with pytest.raises(CdiGenError, match="two devices with the name 0"):
        spec("imex", with_channels(0, 0))


NUMBERED = TransportNode(name="nvidia-fs*", driver="nvidia-fs", minor=None, sysfs_class=None)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("nvidia-fs0", 0),
        ("nvidia-fs1048575", 1048575),
        ("nvidia-fs", None),
        ("nvidia-fs*", None),
        ("nvidia-fs00", None),
        ("nvidia-fs-1", None),
        ("nvidia-fs1x", None),
        ("nvidia-fs1 ", None),
        ("nvidia-fs²", None),
        ("nvidia-fs12345678", None),
        ("xnvidia-fs0", None),
    ],
)
def test_a_number_is_as_the_kernel_writes_it(name: str, number: int | None) -> None:
    assert NUMBERED.number(name) == number


def test_the_command_line_has_every_mode() -> None:
    assert tuple(each.mode for each in catalogue().transports) == MODES
    assert tuple(name for name in MODULES if find(name).transports) == MODES
    assert [find(mode).class_ for mode in MODES] == [transport(mode).class_ for mode in MODES]
    text = (REPOSITORY / "docs/differences-from-nvidia-ctk.md").read_text(encoding="utf-8")
    assert not [mode for mode in MODES if f"`{mode}`" not in text]


def test_a_node_is_numbered_in_one_way() -> None:
    for entry in [node for each in catalogue().transports for node in each.nodes]:
        assert (entry.driver is None) is (entry.sysfs_class is not None)
        assert entry.name.endswith("*") or entry.sysfs_class or entry.minor is not None
