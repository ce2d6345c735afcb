# SPDX-License-Identifier: Apache-2.0
"""What the shim watches comes from the catalogue and the inventory: no list beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cdi_base import host_fingerprint
from cdi_base.host_fingerprint import Choices
from cdi_gen.catalogue import catalogue
from cdi_gen.inventory import DGPU, CharDevice, Inventory, json_form
from cdi_gen.programs import prepare, watch
from tests.host.looking import REPOSITORY

GOLDEN = sorted((REPOSITORY / "specs/golden").glob("*/inventory.json"))


def test_everything_that_was_once_listed_by_hand_is_watched() -> None:
    watched = watch.of_catalogue(catalogue())
    assert {"nvidia*", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "nvidia-caps"} < {
        *watched.nodes
    }
    assert {"nvidia-fs*", "nvidia-nvswitch*", "gdrdrv", "infiniband", "dri"} < {*watched.nodes}
    assert {
        "/etc/cufile.json",
        "/run/nvidia-persistenced/socket",
        "/run/nvidia-fabricmanager/socket",
        "/tmp/nvidia-mps",
    } < {*watched.files}


def test_a_new_transport_of_the_catalogue_is_watched() -> None:
    known = catalogue()
    (gds,) = (each for each in known.transports if each.mode == "gds")
    node = gds.nodes[0]._replace(name="new/node*")
    new = gds._replace(mode="new", nodes=(node,), files=("/etc/new.json",))
    watched = watch.of_catalogue(known._replace(transports=(new,)))
    assert "new" in watched.nodes
    assert "/etc/new.json" in watched.files
    assert "gdrdrv" not in watched.nodes


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_the_nodes_of_a_discrete_gpus_host_are_in_the_catalogue(path: Path) -> None:
    """So such a host is read once. Of any other platform the inventory adds what to watch."""
    known = watch.of_catalogue(catalogue())
    inventory = json_form.load(path.read_text(encoding="utf-8"))
    both = watch.with_inventory(known, inventory)
    if inventory.platform == DGPU:
        assert both.document() == known.document()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/dev/dxg", "dxg"),
        ("/dev/nvhost-ctrl-gpu", "nvhost-ctrl-gpu"),
        ("/dev/fb0", "fb*"),
        ("/dev/vfio/17", "vfio"),
        ("/elsewhere/x", None),
    ],
)
def test_a_node_of_another_platform_is_watched(path: str, name: str | None) -> None:
    known = watch.of_catalogue(catalogue())
    inventory = json_form.load(GOLDEN[0].read_text(encoding="utf-8"))
    node = CharDevice(path=path, major=1, minor=2, file_mode=0o666, gid=0, present=True)
    both = watch.with_inventory(known, replace(inventory, control_nodes=(node,)))
    assert {*both.nodes} - {*known.nodes} == ({name} if name else set())
    assert both.files == known.files


@pytest.mark.parametrize(("path", "reads"), [("/dev/nvidia0", 1), ("/dev/dxg", 2)])
def test_the_fingerprint_is_older_than_the_inventory(
    path: str, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change while the host is read makes another preparation due, whatever the platform."""
    node = CharDevice(path=path, major=1, minor=2, file_mode=0o666, gid=0, present=True)
    inventory = json_form.load(GOLDEN[0].read_text(encoding="utf-8"))
    calls: list[str] = []

    def gather(_where: object) -> Inventory:
        calls.append("gather")
        return replace(inventory, control_nodes=(node,))

    def key(choices: Choices) -> list[object]:
        calls.append("key")
        return choices.watch.document()

    monkeypatch.setattr(prepare, "gather", gather)
    monkeypatch.setattr(host_fingerprint, "key", key)
    document = prepare.prepare(Choices(spec_directories=["/nowhere"]))
    assert calls == ["key", "gather"] * reads
    assert document["key"] == document["watch"]
    assert ("dxg" in document["watch"][0]) is (path == "/dev/dxg")
