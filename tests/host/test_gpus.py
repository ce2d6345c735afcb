# SPDX-License-Identifier: Apache-2.0
"""GPUs and MIG devices are those that the fake host was made with."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen.errors import NoDriverError
from cdi_gen.generate import generate
from cdi_gen.inventory import CharDevice, HookProgram, Inventory
from cdi_gen.paths import HostPath
from tests.fakehost import kernel, nvml_mock
from tests.fakehost.gpus import Gpu
from tests.fakehost.hosts import HOSTS, FakeHost
from tests.host import looking

GetHost = Callable[[str], FakeHost]
Look = Callable[..., Inventory]

pytestmark = pytest.mark.host

HOOK = HookProgram(path=HostPath("/usr/libexec/cdi-gen/cdi-gen-hook"))
UNLOADED = "550-unloaded"
LOADED = sorted(set(HOSTS) - {UNLOADED})


def usable(gpu: Gpu) -> bool:
    """Whether NVML can reach a GPU that the driver counts."""
    faults = gpu.nvml_handle_code, gpu.nvml_query_code, gpu.information == "unreadable"
    return not any(faults) and gpu.device_node


def expected_drm(gpu: Gpu) -> list[tuple[str, int, int]]:
    nodes = []
    if gpu.drm_card is not None:
        nodes.append((f"/dev/dri/card{gpu.drm_card}", gpu.drm_card, 44))
    if gpu.drm_render is not None:
        nodes.append((f"/dev/dri/renderD{gpu.drm_render}", gpu.drm_render, 992))
    return nodes


@pytest.mark.parametrize("name", LOADED)
def test_gpus_are_the_hosts(host: GetHost, look: Look, name: str) -> None:
    """Index, minor, UUID, PCI address, model, nodes; index counts as NVML does."""
    counted = [gpu for gpu in host(name).kernel.gpus if not gpu.excluded]
    found = look(name).gpus
    assert [
        (gpu.index, gpu.minor, gpu.uuid, gpu.pci_address, gpu.model, gpu.mig_enabled)
        for gpu in found
    ] == [
        (index, gpu.minor, gpu.uuid, gpu.pci_address, gpu.model.name, gpu.mig_enabled)
        for index, gpu in enumerate(counted)
        if usable(gpu)
    ]
    for gpu, made in zip(found, filter(usable, counted), strict=True):
        assert gpu.nodes[0].path == f"/dev/nvidia{made.minor}"
        assert (gpu.nodes[0].major, gpu.nodes[0].minor) == (kernel.NVIDIA_MAJOR, made.minor)
        assert gpu.nodes[0].present
        drm = [(node.path, node.minor, node.gid) for node in gpu.drm_nodes]
        assert drm == expected_drm(made)


@pytest.mark.parametrize("name", LOADED)
def test_every_node_is_what_dev_has(host: GetHost, look: Look, name: str) -> None:
    """Numbers, mode and group of every node in the inventory are those that stat(2) tells."""
    fake, inventory = host(name), look(name)
    nodes: list[CharDevice] = [*inventory.control_nodes]
    for gpu in inventory.gpus:
        nodes += [*gpu.nodes, *gpu.drm_nodes]
    for device in inventory.mig_devices:
        nodes += [device.gpu_instance_cap, device.compute_instance_cap]
    for node in nodes:
        path = fake.driver_root / node.path[1:]
        assert path.exists() is node.present
        if node.present:
            found = path.stat()
            assert stat.S_ISCHR(found.st_mode)
            assert found.st_rdev == os.makedev(node.major, node.minor)
            assert (stat.S_IMODE(found.st_mode), found.st_gid) == (node.file_mode, node.gid)


@pytest.mark.parametrize("name", LOADED)
def test_the_boards_own_display_is_nobodys(look: Look, name: str) -> None:
    """card0 is the management controller's: no NVIDIA GPU, and so in no container."""
    assert not any(
        node.path == "/dev/dri/card0" for gpu in look(name).gpus for node in gpu.drm_nodes
    )


@pytest.mark.parametrize("name", LOADED)
def test_control_nodes(host: GetHost, look: Look, name: str) -> None:
    expected = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]
    if host(name).kernel.modeset:
        expected.insert(1, "/dev/nvidia-modeset")
    assert [node.path for node in look(name).control_nodes] == expected


@pytest.mark.parametrize(
    ("name", "count"), [("550-mig56", 56), ("550-mig-mixed", 4), ("550-8gpu", 0)]
)
def test_mig_devices_are_the_hosts(host: GetHost, look: Look, name: str, count: int) -> None:
    gpus = host(name).kernel.gpus
    found = look(name).mig_devices
    assert len(found) == count
    assert [
        (
            *(device.gpu_index, device.index, device.uuid, device.profile),
            *(device.gpu_instance, device.compute_instance),
            *(device.gpu_instance_cap.minor, device.compute_instance_cap.minor),
        )
        for device in found
    ] == [
        (
            *(index, number, mig.uuid, mig.profile, mig.gi, mig.ci),
            kernel.instance_minor(gpu.minor, mig.gi),
            kernel.instance_minor(gpu.minor, mig.gi, mig.ci),
        )
        for index, gpu in enumerate(gpus)
        for number, mig in enumerate(gpu.mig)
    ]
    for device in found:
        for cap in (device.gpu_instance_cap, device.compute_instance_cap):
            assert cap.path == f"/dev/nvidia-caps/nvidia-cap{cap.minor}"
            assert (cap.major, cap.file_mode) == (host(name).kernel.caps_major, 0o444)


def test_the_capabilities_agree_with_mig_minors(host: GetHost, look: Look) -> None:
    """procfs's capability files and its table of minors are two tellings of one thing."""
    text = (host("550-mig56").root / "proc/driver/nvidia-caps/mig-minors").read_text()
    minors = dict(line.rsplit(" ", 1) for line in text.splitlines())
    inventory = look("550-mig56")
    for device in inventory.mig_devices:
        gpu = inventory.gpus[device.gpu_index]
        instance = f"gpu{gpu.minor}/gi{device.gpu_instance}"
        assert minors[f"{instance}/access"] == str(device.gpu_instance_cap.minor)
        compute = f"{instance}/ci{device.compute_instance}/access"
        assert minors[compute] == str(device.compute_instance_cap.minor)


def test_a_gpu_with_mig_on_and_no_instance(look: Look) -> None:
    """It cannot be used whole, and there is nothing in it to use; it is no GPU for `all`."""
    inventory = look("550-mig-mixed")
    assert [gpu.mig_enabled for gpu in inventory.gpus] == [False, True, True]
    assert {device.gpu_index for device in inventory.mig_devices} == {1}
    (together,) = (each for each in generate(inventory).devices if each.name == "all")
    paths = {node.path for node in together.container_edits.device_nodes}
    assert "/dev/nvidia2" not in paths
    assert {"/dev/nvidia0", "/dev/nvidia1"} <= paths


def test_permuted_minors(look: Look) -> None:
    """Index is the order on the bus; the minor, and with it the node, is the driver's choice."""
    inventory = look("550-permuted")
    assert [gpu.index for gpu in inventory.gpus] == [0, 1, 2, 3]
    assert [gpu.nodes[0].path for gpu in inventory.gpus] == [
        *("/dev/nvidia2", "/dev/nvidia0", "/dev/nvidia3", "/dev/nvidia1")
    ]
    devices = {each.name: each for each in generate(inventory).devices}
    nodes = [node.path for node in devices["2"].container_edits.device_nodes]
    by_path = [f"/dev/dri/by-path/pci-0000:21:00.0-{kind}" for kind in ("card", "render")]
    assert nodes == ["/dev/nvidia3", "/dev/dri/card4", "/dev/dri/renderD131", *by_path]


def test_broken_gpus_cost_only_themselves(look: Look) -> None:
    inventory = look("550-broken")
    assert [gpu.index for gpu in inventory.gpus] == [0, 4]
    assert [each.device for each in inventory.unusable_devices] == [
        "GPU 3 at 0000:24:00.0",
        "GPU 2 at 0000:21:00.0",
        "GPU 1 at 0000:1e:00.0",
    ]
    lost = next(each.reason for each in inventory.unusable_devices if "GPU 1" in each.device)
    assert "lost" in lost.lower()
    names = {each.name for each in generate(inventory).devices}
    assert {"0", "4", "all"} <= names
    assert names.isdisjoint({"1", "2", "3"})


def test_broken_gpus_make_the_exit_code_4(host: GetHost) -> None:
    done = looking.run("generate", host_root=str(host("550-broken").root))
    assert done.returncode == 4
    assert "GPU 3 at 0000:24:00.0" in done.stderr


def test_an_excluded_gpu_is_not_counted(look: Look) -> None:
    """NVML does not count it either: the GPU behind it moves up."""
    inventory = look("550-excluded")
    assert [(gpu.index, gpu.minor) for gpu in inventory.gpus] == [(0, 0), (1, 2)]
    assert [each.path for each in inventory.ignored] == ["GPU at 0000:1e:00.0"]
    assert not inventory.unusable_devices


def test_no_gpu(look: Look) -> None:
    with pytest.raises(NoDriverError, match="it controls no GPU"):
        generate(look("550-nogpu"))


def test_no_driver(host: GetHost) -> None:
    with pytest.raises(NoDriverError, match="no NVIDIA driver is loaded"):
        looking.look_at(host(UNLOADED))


def test_a_split_driver_is_refused_whole(host: GetHost, look: Look) -> None:
    driver = looking.driver_of(look("550-split"))
    assert (driver.version, driver.library_version) == (
        "535.261.03",
        "550.163.01",
    )
    done = looking.run("generate", check=False, host_root=str(host("550-split").root))
    assert (done.returncode, done.stdout) == (1, "")
    assert "535.261.03" in done.stderr
    assert "550.163.01" in done.stderr


@pytest.mark.parametrize(
    ("name", "kind"), [("550-1gpu", "open"), ("535-bookworm", "open"), ("470-tesla", "proprietary")]
)
def test_the_kernel_module(host: GetHost, look: Look, name: str, kind: str) -> None:
    driver = looking.driver_of(look(name))
    assert driver.version == driver.library_version == host(name).driver_version
    assert driver.kernel_module == kind


LOADED_MODULES = """
import sys
from cdi_gen.host import Where, gather
gather(Where(host_root=sys.argv[1], driver_root=sys.argv[2]))
with open("/proc/self/maps") as maps:
    mapped = {line.split()[-1] for line in maps if "libnvidia-ml" in line}
print("ctypes" in sys.modules, len(mapped))
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("550-lib64", "False 0"),
        ("550-nixos", "False 0"),
        ("470-tesla", "False 0"),
        # An H100 or A100 may have MIG enabled and no instance, of which procfs has no word.
        ("550-8gpu", "True 1"),
        ("550-operator", "True 1"),
        ("550-mig-mixed", "True 1"),
    ],
)
def test_nvml_is_loaded_only_where_it_must(host: GetHost, name: str, expected: str) -> None:
    fake = host(name)
    done = looking.python("-c", LOADED_MODULES, str(fake.root), looking.driver_root_of(fake))
    assert done.stdout.strip() == expected, done.stderr


ASKED = """
import sys
from cdi_gen.host import Where, gather
from cdi_gen.host.devices import nvml
asked = []
ask = nvml.ask
nvml.ask = lambda *words: asked.append(words) or ask(*words)
gather(Where(host_root=sys.argv[1]))
print([(library.removeprefix(sys.argv[1]), *addresses) for library, addresses in asked])
"""


def test_nvml_is_asked_once(host: GetHost) -> None:
    fake = host("550-mig56")
    done = looking.python("-c", ASKED, str(fake.root))
    (call,) = eval(done.stdout)
    assert call[0] == str(fake.nvml).removeprefix(str(fake.root))
    assert list(call[1:]) == [gpu.pci_address for gpu in fake.kernel.gpus]


def test_a_failing_nvml_costs_only_the_mig_devices(own_host: GetHost) -> None:
    fake = own_host("550-mig-mixed")
    answers = fake.nvml.parent / nvml_mock.DESCRIPTION
    answers.write_text(answers.read_text().replace("init 0", "init 999"))
    done = looking.run("generate", host_root=str(fake.root))
    assert done.returncode == 4
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [0, 1, 2]
    assert not inventory.mig_devices
    assert [each.device for each in inventory.unusable_devices] == [
        "MIG devices of GPU 1 at 0000:1e:00.0"
    ]
    assert {"0", "all"} <= {each.name for each in generate(inventory).devices}


def test_an_nvml_that_does_not_load_costs_only_the_mig_devices(own_host: GetHost) -> None:
    fake = own_host("550-mig-mixed")
    whole = fake.nvml.read_bytes()
    fake.nvml.unlink()
    fake.nvml.write_bytes(whole[: len(whole) // 2])
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [0, 1, 2]
    assert [each.device for each in inventory.unusable_devices] == [
        "MIG devices of GPU 1 at 0000:1e:00.0"
    ]


class TestDevRoot:
    """The dev root may be another directory than the driver root."""

    def test_nodes_come_from_there(self, look: Look) -> None:
        inventory = look("550-operator", dev_root="/")
        assert (inventory.driver_root, inventory.dev_root) == ("/run/nvidia/driver", "/")
        spec = generate(inventory)
        assert all(not node.host_path for node in spec.container_edits.device_nodes)

    def test_by_path_links_do_not_keep_it(self, look: Look) -> None:
        """nvidia-ctk leaves the dev root in the link's place, where nobody looks."""
        inventory = look("550-operator")
        assert inventory.dev_root == "/run/nvidia/driver"
        devices = {each.name: each for each in generate(inventory).devices}
        nodes = {node.path: node.host_path for node in devices["0"].container_edits.device_nodes}
        assert nodes["/dev/nvidia0"] == "/run/nvidia/driver/dev/nvidia0"
        by_path = "/dev/dri/by-path/pci-0000:1b:00.0-card"
        assert nodes[by_path] == "/run/nvidia/driver/dev/dri/card1"


def test_by_path_names_are_those_of_udev(host: GetHost, look: Look) -> None:
    """Every by-path link of the host is made in the container, and leads to the same node."""
    fake = host("550-8gpu")
    inventory = replace(look("550-8gpu"), hook=HOOK)
    words = generate(inventory).container_edits.hooks[0].args
    made = dict(word.split("::")[::-1] for word in words if "/dev/dri/by-path/" in word)
    links = {
        f"/dev/dri/by-path/{each.name}": each for each in (fake.root / "dev/dri/by-path").iterdir()
    }
    assert len(links) == 16
    assert made == {path: os.readlink(link) for path, link in links.items()}


def test_without_a_hook_they_are_nodes(host: GetHost, look: Look) -> None:
    """Where nobody makes links: the same numbers once more, under the host's own names."""
    fake = host("550-8gpu")
    nodes = {
        node.path: (node.major, node.minor)
        for device in generate(look("550-8gpu")).devices
        for node in device.container_edits.device_nodes
    }
    for link in (fake.root / "dev/dri/by-path").iterdir():
        found = Path(os.path.realpath(link)).stat()
        numbers = os.major(found.st_rdev), os.minor(found.st_rdev)
        assert nodes[f"/dev/dri/by-path/{link.name}"] == numbers


@pytest.mark.parametrize(
    "written", ["/run/nvidia/driver/.", "/run//nvidia/./driver/", "/./run/nvidia/driver"]
)
def test_a_root_however_it_is_written(host: GetHost, look: Look, written: str) -> None:
    search = (f"{written}/usr/lib/./x86_64-linux-gnu",)
    found = looking.look_at(host("550-operator"), driver_root=written, library_search_path=search)
    assert (found.driver_root, found.dev_root) == ("/run/nvidia/driver",) * 2
    known = {each.path for each in look("550-operator").libraries}
    assert {each.path for each in found.libraries} <= known
    generate(found)


@pytest.mark.parametrize("option", ["--driver-root", "--dev-root", "--library-search-path"])
def test_a_root_behind_dots(host: GetHost, option: str) -> None:
    """Lexically /run/nvidia/driver, and elsewhere if `x` is a link: nobody knows what was meant."""
    words = (option, "/run/nvidia/driver/x/..", "--host-root", str(host("550-operator").root))
    done = looking.python("-m", "cdi_gen", "generate", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{option}: /run/nvidia/driver/x/.. has a '..'" in done.stderr
    assert "give the path of the directory without '..'" in done.stderr
