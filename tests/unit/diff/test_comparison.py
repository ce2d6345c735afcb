# SPDX-License-Identifier: Apache-2.0
"""Differences between hosts, inventories and specs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen.cdi import wire
from cdi_gen.cdi.model import ContainerEdits, Device, DeviceNode, Mount, Spec
from cdi_gen.diff import comparison, contents, expected_specs
from cdi_gen.generate import DEFAULTS, generate, management, mig_access
from cdi_gen.generate.modes import transports
from cdi_gen.inventory import Inventory
from cdi_gen.inventory.json_form import load

GOLDEN = Path(__file__).parents[3] / "specs/golden"
HOSTS = [path.parent.name for path in sorted(GOLDEN.glob("*/inventory.json"))]


def inventory(name: str) -> Inventory:
    return load((GOLDEN / name / "inventory.json").read_text())


def lines(old: contents.Contents, new: contents.Contents) -> list[str]:
    return [*comparison.lines(comparison.compare(old, new))]


def spec(*nodes: str, name: str = "0", mounts: tuple[Mount, ...] = ()) -> Spec:
    edits = ContainerEdits(
        device_nodes=tuple(
            DeviceNode(path=node, type="c", major=195, minor=number)
            for number, node in enumerate(nodes)
        )
    )
    return Spec(
        cdi_version="0.5.0",
        kind="nvidia.com/gpu",
        devices=(Device(name=name, container_edits=edits),),
        container_edits=ContainerEdits(mounts=mounts),
    )


def mount(path: str, container_path: str = "") -> Mount:
    return Mount(host_path=path, container_path=container_path or path, options=("bind",))


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("file", ["nvidia.json", "nohooks.json", "cap.json"])
def test_a_spec_of_a_host_does_not_differ_from_the_host(name: str, file: str) -> None:
    installed = wire.load((GOLDEN / name / file).read_text())
    expected = expected_specs.in_manner_of(inventory(name), [installed])
    assert lines(contents.of_specs([installed]), contents.of_specs(expected)) == []


def test_specs_of_every_kind_do_not_differ_from_their_host() -> None:
    host = inventory("hgx-550-8gpu")
    management_options = DEFAULTS._replace(vendor=management.VENDOR, hooks=False)
    specs = [
        generate(host, DEFAULTS._replace(hooks=False, form="tree", names=("type-index",))),
        management.spec(host, management_options),
        *filter(None, (transports.spec(mode, host) for mode in transports.MODES)),
        *filter(None, [mig_access.spec(host)]),
    ]
    assert len({each.kind for each in specs}) > 5
    expected = expected_specs.in_manner_of(host, specs)
    assert lines(contents.of_specs(specs), contents.of_specs(expected)) == []


@pytest.mark.parametrize("name", HOSTS)
def test_an_inventory_does_not_differ_from_itself(name: str) -> None:
    assert not comparison.compare(
        contents.of_inventory(inventory(name)), contents.of_inventory(inventory(name))
    )


def test_a_library_of_another_driver_is_one_change() -> None:
    old = contents.of_specs([spec(mounts=(mount("/usr/lib64/libcuda.so.535.1.02"),))])
    new = contents.of_specs([spec(mounts=(mount("/usr/lib64/libcuda.so.550.2"),))])
    assert lines(old, new) == [
        "~ driver 535.1.02 -> 550.2",
        "~ file /usr/lib64/libcuda.so.535.1.02 -> /usr/lib64/libcuda.so.550.2",
    ]


def test_a_file_that_only_one_side_has() -> None:
    old = contents.of_specs([spec(mounts=(mount("/usr/bin/a"), mount("/usr/bin/b")))])
    new = contents.of_specs([spec(mounts=(mount("/usr/bin/b"), mount("/usr/bin/c")))])
    assert lines(old, new) == ["- file /usr/bin/a", "+ file /usr/bin/c"]


def test_another_place_in_the_container_is_a_change() -> None:
    old = contents.of_specs([spec(mounts=(mount("/a"),))])
    new = contents.of_specs([spec(mounts=(mount("/a", "/b"),))])
    assert lines(old, new) == ["~ file /a at /a -> /a at /b"]


def test_directories_of_a_merged_usr_are_the_same() -> None:
    old = contents.of_specs([spec(mounts=(mount("/lib/firmware/nvidia/x.bin"),))])
    new = contents.of_specs([spec(mounts=(mount("/usr/lib/firmware/nvidia/x.bin"),))])
    assert not lines(old, new)[:-1]


def test_devices_nodes_and_numbers() -> None:
    old = contents.of_specs([spec("/dev/nvidia0", "/dev/nvidia-uvm")])
    moved = DeviceNode(path="/dev/nvidia-uvm", type="c", major=511, minor=0)
    own = DeviceNode(path="/dev/dri/card1", type="c", major=226, minor=1)
    edits = ContainerEdits(
        device_nodes=(*spec("/dev/nvidia0").devices[0].container_edits.device_nodes, moved, own)
    )
    new_spec = replace(
        spec(),
        devices=(
            Device(name="0", container_edits=edits),
            Device(name="1", container_edits=ContainerEdits(env=("A=1",))),
        ),
    )
    assert lines(old, contents.of_specs([new_spec])) == [
        "+ device 1",
        "~ device 0: +/dev/dri/card1",
        "+ node /dev/dri/card1",
        "~ node /dev/nvidia-uvm 195:1 -> 511:0",
    ]


def test_gpus_that_were_exchanged_are_not_one_changed_gpu() -> None:
    """Index and PCI address stay, the UUID does not."""
    before = inventory("flat-550-1gpu")
    (gpu,) = before.gpus
    uuid = "GPU-ffffffff-0000-4000-8000-000000000000"
    after = replace(before, gpus=(replace(gpu, uuid=uuid),))
    old, new = contents.of_inventory(before), contents.of_inventory(after)
    removed, added = lines(old, new)
    assert removed.startswith("- device 0 (GPU-ab100000-")
    assert added.startswith(f"+ device 0 ({uuid}, pci-0000-1b-00-0")


def test_gpus_in_another_order_are_the_same_gpus() -> None:
    before = inventory("debian-trixie-550-8gpu")
    first, second, *others = before.gpus
    gpus = (replace(second, index=0), replace(first, index=1), *others)
    after = replace(before, gpus=gpus)
    assert lines(contents.of_inventory(before), contents.of_inventory(after)) == []


def test_settings_are_compared_between_specs_only() -> None:
    hooked = wire.load((GOLDEN / "flat-550-1gpu/nvidia.json").read_text())
    host = inventory("flat-550-1gpu")
    plain = generate(replace(host, hook=None))
    with_settings = comparison.compare(
        contents.of_specs([hooked], with_settings=True),
        contents.of_specs([plain], with_settings=True),
    )
    assert any("hook createContainer: /usr" in line for line in with_settings.settings_removed)
    without = comparison.compare(contents.of_specs([hooked]), contents.of_specs([plain]))
    assert without.settings_removed == ()


def test_the_json_form_has_every_line() -> None:
    old = contents.of_inventory(inventory("debian-bookworm-tesla-470-2gpu"))
    new = contents.of_inventory(inventory("debian-trixie-550-8gpu"))
    difference = comparison.compare(old, new)
    document = comparison.document(difference)
    assert document["different"] is True
    assert document["driver"] == {"old": "470.256.02", "new": "550.163.01"}
    count = 1  # the driver
    for part in ("devices", "nodes", "files", "settings"):
        lists = document[part]
        assert isinstance(lists, dict)
        count += sum(map(len, lists.values()))
    assert count == len([*comparison.lines(difference)])
