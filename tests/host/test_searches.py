# SPDX-License-Identifier: Apache-2.0
"""Searches of the host return values: a second search neither sees nor changes the first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cdi_gen.catalogue import catalogue
from cdi_gen.errors import CdiGenError
from cdi_gen.host import Where, gather, platforms
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.gpus import GpuSearch
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.driver.libraries import LibrarySearch
from cdi_gen.host.platforms import dgpu, tegra, wsl
from cdi_gen.host.result import by_kind
from cdi_gen.host.roots import Root
from cdi_gen.inventory import DGPU, PLATFORMS, VFIO, Ignored, Missing, StaleNode, UnusableDevice
from tests.fakehost.hosts import FakeHost

pytestmark = pytest.mark.host

GetHost = Callable[[str], FakeHost]


def root_of(fake: FakeHost) -> Root:
    return Root(seen_from=str(fake.root))


@pytest.mark.parametrize("name", ["550-lib64", "550-broken"])
def test_a_second_search_gives_the_same(host: GetHost, name: str) -> None:
    fake = host(name)
    root = root_of(fake)
    nodes = DeviceNodes(root, root, proc.majors(root), frozenset({"graphics"}))
    searches: list[Callable[[], object]] = [
        lambda: nodes.node("/dev/none", ("nvidia",), 7),
        lambda: nodes.control(catalogue().control_nodes),
        lambda: [nodes.drm(gpu.pci_address) for gpu in fake.kernel.gpus],
        GpuSearch(root, nodes, None).find,
    ]
    first = [search() for search in searches]
    assert [search() for search in reversed(searches)] == first[::-1]
    libraries = LibrarySearch(root, catalogue(), "x86_64")
    one, two = (libraries.find(fake.driver_version) for _ in range(2))
    assert (one.values.libraries, one.records) == (two.values.libraries, two.records)


def test_an_absent_node_is_a_record_of_its_own_search(host: GetHost) -> None:
    root = root_of(host("550-lib64"))
    nodes = DeviceNodes(root, root, proc.majors(root))
    absent = nodes.node("/dev/nvidia9", ("nvidia",), 9)
    assert [record.code for record in absent.records] == ["CDG-H201"]
    assert nodes.gpu(0).records == ()


def test_each_record_is_reported_once_and_by_its_kind() -> None:
    missing = Missing(name="a", reason="b", code="CDG-H201")
    stale = StaleNode(path="/a", reason="b", code="CDG-H301")
    skipped = UnusableDevice(device="a", reason="b", code="CDG-H101")
    left = Ignored(path="/a", reason="b", code="CDG-H402")
    assert by_kind([left, missing, stale, missing, skipped]) == {
        "missing": (missing,),
        "stale_nodes": (stale,),
        "unusable_devices": (skipped,),
        "ignored": (left,),
    }


def test_every_platform_that_is_recognised_is_one_of_the_inventory() -> None:
    assert set(platforms.MODULES) == PLATFORMS.keys() - {VFIO}
    assert platforms.MODULES[0] == DGPU


def test_a_host_is_recognised_by_what_its_platform_has(host: GetHost, own_host: GetHost) -> None:
    fake = host("550-lib64")
    assert list(platforms.detected(root_of(fake))) == [dgpu]
    other = own_host("550-lib64")
    (other.root / "dev/dxg").write_text("")
    (other.root / "etc/nv_tegra_release").write_text("# R36")
    # A board that has a card with the driver for Linux gives it to containers.
    assert list(platforms.detected(root_of(other))) == [dgpu, wsl, tegra]
    assert gather(Where(host_root=str(other.root))).platform == DGPU
    (other.root / "proc/driver/nvidia/version").unlink()
    with pytest.raises(CdiGenError, match="this is WSL 2") as caught:
        gather(Where(host_root=str(other.root)))
    assert caught.value.code == "CDG-H002"
