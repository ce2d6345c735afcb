# SPDX-License-Identifier: Apache-2.0
"""The nodes that permit a process to configure and to monitor MIG devices, in the inventory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cdi_gen.generate import mig_access
from cdi_gen.inventory import CharDevice, Inventory
from tests.fakehost.hosts import FakeHost
from tests.host.looking import look_at

pytestmark = pytest.mark.host

Look = Callable[..., Inventory]
OwnHost = Callable[[str], FakeHost]


def access_nodes(inventory: Inventory) -> list[CharDevice]:
    return [node for node in (inventory.mig_config, inventory.mig_monitor) if node]


def test_they_are_in_the_inventory_of_a_host_with_mig(look: Look) -> None:
    """Looked for under --host-root: the machine that runs the tests has none."""
    inventory = look("550-mig-mixed")
    nodes = {node.path: node.minor for node in access_nodes(inventory)}
    assert nodes == {"/dev/nvidia-caps/nvidia-cap1": 1, "/dev/nvidia-caps/nvidia-cap2": 2}
    spec = mig_access.spec(inventory)
    assert spec is not None
    assert spec.kind == "nvidia.com/mig"
    assert [device.name for device in spec.devices] == ["config", "monitor"]


def test_an_absent_node_is_a_fact_and_not_missing(own_host: OwnHost) -> None:
    """nvidia-modprobe makes the nodes when a program first uses them."""
    fake = own_host("550-1gpu")
    for name in ("nvidia-cap1", "nvidia-cap2"):
        (fake.root / "dev/nvidia-caps" / name).unlink()
    inventory = look_at(fake)
    assert [node.present for node in access_nodes(inventory)] == [False, False]
    assert not [each for each in inventory.missing if "nvidia-cap" in each.name]


def test_a_driver_without_mig_has_none(own_host: OwnHost) -> None:
    fake = own_host("550-1gpu")
    for access in ("config", "monitor"):
        (fake.root / "proc/driver/nvidia/capabilities/mig" / access).unlink()
    inventory = look_at(fake)
    assert access_nodes(inventory) == []
    assert mig_access.spec(inventory) is None
