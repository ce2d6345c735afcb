# SPDX-License-Identifier: Apache-2.0
"""Nodes and files of GPUDirect Storage, RDMA cards, GDRCopy, NVSwitches and IMEX channels."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.catalogue import catalogue
from cdi_gen.host import Where, gather
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.devices.transports import Transports, TransportSearch
from cdi_gen.host.result import SearchResult, by_kind
from cdi_gen.host.roots import Root
from cdi_gen.inventory import Ignored, Inventory
from tests.fakehost import kernel
from tests.fakehost.hosts import HOSTS, FakeHost
from tests.host.looking import look_at, run

pytestmark = pytest.mark.host

CHANNELS = "dev/nvidia-caps-imex-channels"
ALL_OF_IT = kernel.Kernel(
    driver_version="550.163.01",
    nvswitches=2,
    imex_channels=3,
    nvidia_fs=2,
    rdma_cards=2,
    gdrcopy=True,
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The kernel's side of a host that has all of it; the driver's libraries are no matter."""
    try:
        kernel.write(ALL_OF_IT, tmp_path)
    except PermissionError as reason:
        pytest.skip(f"device nodes: {reason}")
    return tmp_path


Result = SearchResult[Transports]


def lefts(found: Result) -> tuple[Ignored, ...]:
    lefts: tuple[Ignored, ...] = by_kind(found.records)["ignored"]
    return lefts


def search(machine: Path, driver_root: str = "/", dev_root: str = "/") -> Result:
    host = Root(seen_from=str(machine))
    roots = (Root(driver_root, seen_from=str(machine)), host)
    nodes = DeviceNodes(host, Root(dev_root, seen_from=str(machine)), proc.majors(host))
    found = TransportSearch(nodes, roots).find(catalogue().transports)
    assert not by_kind(found.records)["missing"]
    return found


def numbers(found: Result) -> dict[str, tuple[int, int]]:
    return {node.path: (node.major, node.minor) for node in found.values.nodes}


EXPECTED = {
    "/dev/nvidia-fs0": (509, 0),
    "/dev/nvidia-fs1": (509, 1),
    "/dev/infiniband/uverbs0": (231, 192),
    "/dev/infiniband/uverbs1": (231, 193),
    "/dev/infiniband/rdma_cm": (10, 121),
    "/dev/gdrdrv": (508, 0),
    "/dev/nvidia-nvswitch0": (235, 0),
    "/dev/nvidia-nvswitch1": (235, 1),
    "/dev/nvidia-nvswitchctl": (235, 255),
    "/dev/nvidia-caps-imex-channels/channel0": (236, 0),
    "/dev/nvidia-caps-imex-channels/channel1": (236, 1),
    "/dev/nvidia-caps-imex-channels/channel2": (236, 2),
}


def test_all_nodes_are_found(machine: Path) -> None:
    found = search(machine)
    assert numbers(found) == EXPECTED
    assert [*numbers(found)] == [*EXPECTED]
    assert not found.records


def test_files_of_gpudirect_storage(machine: Path) -> None:
    files = search(machine).values.files
    assert [(file.path, file.seen_at) for file in files] == [
        ("/etc/cufile.json", "/etc/cufile.json"),
        ("/run/udev", "/run/udev"),
    ]


def test_files_come_with_a_node_only(machine: Path) -> None:
    """Every host has /run/udev."""
    for number in range(2):
        (machine / f"dev/nvidia-fs{number}").unlink()
    assert not search(machine).values.files


def test_the_driver_root_is_searched_first(machine: Path) -> None:
    own = machine / "run/nvidia/driver/etc/cufile.json"
    own.parent.mkdir(parents=True)
    own.symlink_to("/opt/gds/cufile.json")
    target = machine / "run/nvidia/driver/opt/gds/cufile.json"
    target.parent.mkdir(parents=True)
    target.write_text("{}", encoding="ascii")
    files = {file.seen_at: file.path for file in search(machine, "/run/nvidia/driver").values.files}
    assert files == {
        "/etc/cufile.json": "/run/nvidia/driver/opt/gds/cufile.json",
        "/run/udev": "/run/udev",
    }


def test_a_file_of_another_kind_is_left(machine: Path) -> None:
    (machine / "etc/cufile.json").unlink()
    os.mkfifo(machine / "etc/cufile.json")
    found = search(machine)
    assert [file.seen_at for file in found.values.files] == ["/run/udev"]
    assert "/etc/cufile.json" in {left.path for left in lefts(found)}


def test_more_than_ten_are_in_the_order_of_their_numbers(machine: Path) -> None:
    for number in (10, 2047, 9):
        os.mknod(machine / CHANNELS / f"channel{number}", stat.S_IFCHR, os.makedev(236, number))
    paths = [path for path in numbers(search(machine)) if "channel" in path]
    assert [int(path.rpartition("channel")[2]) for path in paths] == [0, 1, 2, 9, 10, 2047]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("channel01", stat.S_IFCHR),
        ("channel", stat.S_IFCHR),
        ("channel-1", stat.S_IFCHR),
        ("channel12345678", stat.S_IFCHR),
        ("channel7 ", stat.S_IFCHR),
        ("channel7\n", stat.S_IFCHR),
        ("channel7", stat.S_IFREG),
        ("channel7", stat.S_IFIFO),
        ("channel7", stat.S_IFBLK),
    ],
)
def test_what_only_looks_like_a_channel(machine: Path, name: str, kind: int) -> None:
    os.mknod(machine / CHANNELS / name, kind | 0o666, os.makedev(236, 7))
    assert numbers(search(machine)) == EXPECTED


def test_a_link_is_no_node(machine: Path) -> None:
    """Engines would make the node of what it leads to, whatever that is by then."""
    (machine / CHANNELS / "channel7").symlink_to("channel0")
    assert numbers(search(machine)) == EXPECTED


@pytest.mark.parametrize(
    ("driver", "node"),
    [
        ("gdrdrv", "/dev/gdrdrv"),
        ("nvidia-fs", "/dev/nvidia-fs1"),
        ("nvidia-nvswitch", "/dev/nvidia-nvswitchctl"),
        ("nvidia-caps-imex-channels", "/dev/nvidia-caps-imex-channels/channel1"),
    ],
)
def test_a_node_whose_driver_is_gone_is_left(machine: Path, driver: str, node: str) -> None:
    """Its major may be another driver's by now: gdrcopy's nodes stay when its module goes."""
    devices = machine / "proc/devices"
    lines = devices.read_text(encoding="ascii").splitlines(keepends=True)
    kept = [line for line in lines if line.split()[1:] != [driver]]
    assert len(kept) == len(lines) - 1
    devices.write_text("".join(kept), encoding="ascii")
    found = search(machine)
    assert node not in numbers(found)
    assert f"has no driver {driver}" in {left.path: left.reason for left in lefts(found)}[node]


def test_a_node_from_another_boot_has_the_kernels_numbers(machine: Path) -> None:
    node = machine / "dev/gdrdrv"
    node.unlink()
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(240, 0))
    host = Root(seen_from=str(machine))
    nodes = DeviceNodes(host, host, proc.majors(host))
    found = TransportSearch(nodes, (host,)).find(catalogue().transports)
    assert numbers(found)["/dev/gdrdrv"] == (508, 0)
    records = by_kind(found.records)
    assert [stale.path for stale in records["stale_nodes"]] == ["/dev/gdrdrv"]
    assert not records["missing"]


def test_a_kernel_that_does_not_tell_is_taken_at_the_nodes_word(machine: Path) -> None:
    (machine / "proc/devices").unlink()
    for path in (machine / "sys/class").rglob("dev"):
        path.unlink()
    assert numbers(search(machine)) == EXPECTED


def test_a_verbs_device_beyond_the_fixed_major(machine: Path) -> None:
    node = machine / "dev/infiniband/uverbs32"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(240, 7))
    told = machine / "sys/class/infiniband_verbs/uverbs32/dev"
    told.parent.mkdir()
    told.write_text("507:0\n", encoding="ascii")
    assert numbers(search(machine))["/dev/infiniband/uverbs32"] == (507, 0)


def test_nodes_are_those_of_the_dev_root(machine: Path) -> None:
    other = machine / "run/nvidia/driver"
    (other / "dev").mkdir(parents=True)
    os.mknod(other / "dev/gdrdrv", stat.S_IFCHR | 0o600, os.makedev(508, 0))
    found = search(machine, dev_root="/run/nvidia/driver")
    assert [(node.path, node.file_mode) for node in found.values.nodes] == [("/dev/gdrdrv", 0o600)]


@pytest.mark.parametrize("name", sorted(set(HOSTS) - {"550-hgx", "550-unloaded"}))
def test_a_usual_host_has_none(look: Callable[..., Inventory], name: str) -> None:
    inventory = look(name)
    assert (inventory.transport_nodes, inventory.transport_files) == ((), ())


def test_the_inventory_has_them_unless_they_are_not_wanted(host: Callable[[str], FakeHost]) -> None:
    fake = host("550-hgx")
    found = gather(Where(host_root=str(fake.root)))
    assert len(found.transport_nodes) == 16 + 9 + 1 + 5 + 4
    assert len(found.transport_files) == 2
    without = gather(Where(host_root=str(fake.root), transports=False))
    assert (without.transport_nodes, without.transport_files) == ((), ())
    assert without.gpus == found.gpus


def test_a_driver_container_has_its_own(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-operator")
    os.mknod(fake.driver_root / "dev/nvidia-fs0", stat.S_IFCHR | 0o666, os.makedev(509, 0))
    devices = fake.root / "proc/devices"
    text = devices.read_text(encoding="ascii")
    devices.write_text(text.replace("\n\nBlock", "\n509 nvidia-fs\n\nBlock"), encoding="ascii")
    (fake.driver_root / "etc/cufile.json").write_text("{}", encoding="ascii")
    found = look_at(fake)
    assert [node.path for node in found.transport_nodes] == ["/dev/nvidia-fs0"]
    assert [file.path for file in found.transport_files] == ["/run/nvidia/driver/etc/cufile.json"]


def test_the_command_writes_what_is_there(host: Callable[[str], FakeHost]) -> None:
    golden = Path(__file__).resolve().parents[2] / "specs/golden/hgx-550-8gpu/nvswitch.json"
    done = run("generate", "--mode", "nvswitch", host_root=str(host("550-hgx").root))
    assert done.stdout == golden.read_text(encoding="utf-8")
    assert "nvidia.com/nvswitch: 5 device nodes" in done.stderr


def test_a_host_without_it_is_no_failure_to_a_unit(host: Callable[[str], FakeHost]) -> None:
    done = run("generate", "--mode", "gds", host_root=str(host("550-1gpu").root), check=False)
    assert done.returncode == 3
    assert not done.stdout
    assert "this host has no GPUDirect Storage: no device node /dev/nvidia-fs*" in done.stderr
