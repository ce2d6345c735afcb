# SPDX-License-Identifier: Apache-2.0
"""What NVML is asked for, and devices of which it, the kernel and each other tell otherwise."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.generate import generate
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory
from cdi_gen.inventory.json_form import load
from tests.fakehost import nvml_mock
from tests.fakehost.hosts import FakeHost
from tests.host import looking

GetHost = Callable[[str], FakeHost]
Look = Callable[..., Inventory]

pytestmark = pytest.mark.host

MIG_OF_GPU_1 = (
    "MIG-ab100001-c0de-6002-8000-000000003000",
    "MIG-ab100001-c0de-6002-8000-000000003001",
)


def tell(fake: FakeHost, *changes: tuple[str, str]) -> None:
    """Make NVML tell something else: each text is there once."""
    description = fake.nvml.parent / nvml_mock.DESCRIPTION
    text = description.read_text()
    for before, after in changes:
        assert text.count(before) == 1
        text = text.replace(before, after)
    description.write_text(text)


def names(inventory: Inventory, **choices: Any) -> set[str]:
    return {each.name for each in generate(inventory, Options(**choices)).devices}


def nodes_of_all(inventory: Inventory) -> set[str]:
    (together,) = (each for each in generate(inventory).devices if each.name == "all")
    return {node.path for node in together.container_edits.device_nodes}


def test_mig_is_enabled_and_there_is_no_instance(host: GetHost, look: Look) -> None:
    """procfs has an empty directory for it, as for a GPU with MIG off."""
    inventory = look("550-mig-empty")
    assert [gpu.mig_enabled for gpu in inventory.gpus] == [False, True, False]
    assert names(inventory).isdisjoint({"1", "pci-0000-1e-00-0"})
    assert "/dev/nvidia1" not in nodes_of_all(inventory)
    assert [(each.device, each.reason) for each in inventory.unusable_devices] == [
        (
            "GPU 1 at 0000:1e:00.0",
            "MIG is enabled, but the GPU has no MIG device; create one with: nvidia-smi mig -cgi PROFILE -C",
        )
    ]
    done = looking.run("generate", host_root=str(host("550-mig-empty").root))
    assert done.returncode == 4
    assert ": 2 GPUs, driver" in done.stderr


@pytest.mark.parametrize("index", [0, 5])
def test_a_gpu_that_is_lost_on_a_host_whose_others_are_well(own_host: GetHost, index: int) -> None:
    """NVML says so of those that it is asked for; the handle of each of the others is whole."""
    fake = own_host("550-8gpu")
    gpu = fake.kernel.gpus[index]
    line = f"gpu {gpu.uuid}"
    text = (fake.nvml.parent / nvml_mock.DESCRIPTION).read_text()
    (whole,) = (each for each in text.splitlines() if each.startswith(line))
    tell(fake, (whole, whole.replace(" 0 0 NVIDIA", f" {nvml_mock.GPU_IS_LOST} 0 NVIDIA")))
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [each for each in range(8) if each != index]
    assert [(each.device, each.reason) for each in inventory.unusable_devices] == [
        (f"GPU {index} at {gpu.pci_address}", "GPU is lost")
    ]


@pytest.mark.parametrize("name", ["550-lib64", "470-tesla"])
def test_a_gpu_off_the_bus_where_nvml_is_not_asked(own_host: GetHost, name: str) -> None:
    fake = own_host(name)
    address = fake.kernel.gpus[0].pci_address
    (fake.root / f"sys/bus/pci/devices/{address}/config").write_bytes(b"\xff" * 256)
    done = looking.run("generate", host_root=str(fake.root))
    assert done.returncode == 4
    assert f"left out: GPU 0 at {address}: the GPU has fallen off the bus" in done.stderr
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [1]
    assert not {"/dev/nvidia0"} & nodes_of_all(inventory)


def test_a_gpu_that_sleeps_is_not_lost(own_host: GetHost) -> None:
    """Reading its configuration space would wake it (a laptop's second GPU)."""
    fake = own_host("550-lib64")
    device = fake.root / f"sys/bus/pci/devices/{fake.kernel.gpus[0].pci_address}"
    (device / "config").write_bytes(b"\xff" * 256)
    (device / "power/runtime_status").write_text("suspended\n")
    assert [gpu.index for gpu in looking.look_at(fake).gpus] == [0, 1]


ASKED = """
import sys
from cdi_gen.host import Where, gather
from cdi_gen.host.devices import mig_mode, nvml
asked = set()
for module in mig_mode, nvml:
    ask = module.ask
    module.ask = lambda *words, ask=ask: asked.update(words[1]) or ask(*words)
gather(Where(host_root=sys.argv[1]))
print(sorted(asked))
"""


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("550-mig-empty", (0, 1)),  # not the GeForce
        ("550-mig-mixed", (0, 1, 2)),
        ("550-lib64", ()),
        ("550-broken", (0, 1, 4)),  # not one without a node, nor one that procfs cannot tell of
    ],
)
def test_nvml_is_asked_for_those_that_may_be_divided(
    host: GetHost, name: str, indices: tuple[int, ...]
) -> None:
    fake = host(name)
    done = looking.python("-c", ASKED, str(fake.root))
    assert eval(done.stdout) == [fake.kernel.gpus[index].pci_address for index in indices]


@pytest.mark.parametrize("fault", ["init 999", "init 9"])
def test_whether_mig_is_enabled_is_not_known(own_host: GetHost, fault: str) -> None:
    """The GPUs are there as before, and it is said what is not known of them."""
    fake = own_host("550-mig-empty")
    tell(fake, ("init 0", fault))
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [0, 1, 2]
    assert [each.name for each in inventory.missing if "MIG" in each.name] == [
        "the MIG mode of GPU 0 at 0000:1b:00.0",
        "the MIG mode of GPU 1 at 0000:1e:00.0",
    ]


class TestAtOdds:
    """Each device for itself: one that nobody understands costs no other."""

    def test_the_kernel_has_instances_and_nvml_says_that_mig_is_off(
        self, own_host: GetHost
    ) -> None:
        fake = own_host("550-mig-mixed")
        gpu = fake.kernel.gpus[1]
        text = (fake.nvml.parent / nvml_mock.DESCRIPTION).read_text()
        (line,) = (each for each in text.splitlines() if each.startswith(f"gpu {gpu.uuid}"))
        tell(fake, (line, line.replace(" 1 0 0 NVIDIA", " 0 0 0 NVIDIA")))
        inventory = looking.look_at(fake)
        assert not inventory.mig_devices
        assert (
            "MIG devices of GPU 1 at 0000:1e:00.0",
            "the kernel has GPU instances, but NVML reports that MIG is disabled",
        ) in [(each.device, each.reason) for each in inventory.unusable_devices]
        assert names(inventory, names=("index",)) == {"0", "all", "none"}
        assert looking.run("generate", host_root=str(fake.root)).returncode == 4

    def test_nvml_has_an_instance_that_the_kernel_has_not(self, own_host: GetHost) -> None:
        fake = own_host("550-mig-mixed")
        tell(
            fake,
            (
                f"mig 1 9 0 {fake.kernel.gpus[1].mig[3].uuid}",
                "mig 1 10 0 MIG-ab100001-c0de-6002-8000-000000003099",
            ),
        )
        inventory = looking.look_at(fake)
        assert [each.index for each in inventory.mig_devices] == [0, 1, 2]
        assert "MIG device 1:3" in {each.device for each in inventory.unusable_devices}

    def test_a_mig_device_whose_uuid_is_none(self, own_host: GetHost) -> None:
        fake = own_host("550-mig-mixed")
        tell(fake, (MIG_OF_GPU_1[0], "MIG-?"))
        inventory = looking.look_at(fake)
        assert [each.index for each in inventory.mig_devices] == [1, 2, 3]
        reasons = {each.device: each.reason for each in inventory.unusable_devices}
        assert reasons["MIG device 1:0"] == "the UUID has an unknown form: 'MIG-?'"

    def test_two_gpus_of_one_uuid(self, own_host: GetHost) -> None:
        """They have other names; none of them is the one that is meant by this one."""
        fake = own_host("550-lib64")
        one, other = (gpu.uuid for gpu in fake.kernel.gpus)
        address = fake.kernel.gpus[1].pci_address
        file = fake.root / f"proc/driver/nvidia/gpus/{address}/information"
        file.write_text(file.read_text().replace(other, one))
        inventory = looking.look_at(fake)
        assert names(inventory) == {
            *("0", "1", "pci-0000-1b-00-0", "pci-0000-1e-00-0", "all", "none")
        }
        assert {"/dev/nvidia0", "/dev/nvidia1"} <= nodes_of_all(inventory)
        assert f"UUID {one}" in {each.name for each in inventory.missing}
        assert looking.run("generate", host_root=str(fake.root)).returncode == 0

    def test_two_mig_devices_of_one_uuid(self, own_host: GetHost) -> None:
        fake = own_host("550-mig-mixed")
        tell(fake, MIG_OF_GPU_1)
        inventory = looking.look_at(fake)
        assert {"1:0", "1:1", "1:2", "1:3"} <= names(inventory)
        assert names(inventory).isdisjoint(MIG_OF_GPU_1)


class TestOldNames:
    """Drivers before 470 call a MIG device by its GPU, its GPU instance and its compute one."""

    @pytest.fixture
    def fake(self, own_host: GetHost) -> FakeHost:
        fake = own_host("550-mig-mixed")
        gpu = fake.kernel.gpus[1]
        tell(fake, *((each.uuid, f"MIG-{gpu.uuid}/{each.gi}/{each.ci}") for each in gpu.mig))
        return fake

    def test_they_are_devices_by_index_and_by_uuid(self, fake: FakeHost) -> None:
        uuid = fake.kernel.gpus[1].uuid
        inventory = looking.look_at(fake)
        assert [each.uuid for each in inventory.mig_devices] == [
            f"MIG-{uuid}/{gi}/{ci}" for gi, ci in ((2, 0), (2, 1), (2, 2), (9, 0))
        ]
        assert {"1:0", "1:1", "1:2", "1:3"} <= names(inventory)
        assert {f"MIG-{uuid}:2:0", f"MIG-{uuid}:2:2", f"MIG-{uuid}:9:0"} <= names(inventory)
        assert not [each for each in inventory.unusable_devices if "GPU 1" in each.device]

    @pytest.mark.parametrize("separator", ["/", ":"])
    def test_they_are_asked_for_as_the_driver_names_them(
        self, fake: FakeHost, separator: str
    ) -> None:
        name = f"MIG-{fake.kernel.gpus[1].uuid}{separator}2{separator}1"
        words = ("--device-id", name, "--no-all-device", "--device-name-strategy", "index")
        done = looking.run("generate", *words, host_root=str(fake.root))
        assert '"name": "1:1"' in done.stdout
        assert '"name": "1:0"' not in done.stdout
        assert ": 1 MIG device, driver" in done.stderr

    def test_list_has_both(self, fake: FakeHost) -> None:
        uuid = fake.kernel.gpus[1].uuid
        done = looking.run("list", "-o", "wide", host_root=str(fake.root))
        (line,) = (each for each in done.stdout.splitlines() if "gpu=1:2 " in each)
        assert f"MIG-{uuid}/2/2 " in line
        assert f"MIG-{uuid}:2:2" in line


def replace_pynvml(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Let the program that `looking` starts import this as pynvml."""
    (folder / "pynvml.py").write_text(source)
    monkeypatch.setattr(looking, "SOURCES", f"{folder}{os.pathsep}{looking.SOURCES}")


@pytest.fixture
def without_pynvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the program as on a host where neither python3-pynvml nor nvidia-ml-py is installed."""
    source = "raise ModuleNotFoundError(\"No module named 'pynvml'\", name='pynvml')\n"
    replace_pynvml(tmp_path, monkeypatch, source)


PYNVML_MISSING = (
    "the Python module pynvml is not installed; install the package python3-pynvml "
    "(Debian, Ubuntu) or nvidia-ml-py (PyPI)"
)


def test_generate_without_pynvml_leaves_out_mig_devices_and_names_the_package(
    host: GetHost, without_pynvml: None, tmp_path: Path
) -> None:
    spec = tmp_path / "nvidia.json"
    done = looking.run("generate", "-o", str(spec), host_root=str(host("550-mig-mixed").root))
    assert done.returncode == 4
    for gpu in ("GPU 1 at 0000:1e:00.0", "GPU 2 at 0000:21:00.0"):
        assert f"left out: MIG devices of {gpu}: {PYNVML_MISSING} [CDG-H107]\n" in done.stderr
    assert "Traceback" not in done.stderr
    # Whether MIG is enabled is known without pynvml: GPU 0 is complete, 1 and 2 are no full GPUs.
    assert "lacks" not in done.stderr
    devices = {device["name"] for device in json.loads(spec.read_text())["devices"]}
    assert devices >= {"0", "all"}
    assert devices.isdisjoint({"1", "2", "1:0"})


def test_generate_without_pynvml_on_a_host_without_mig_says_nothing_of_it(
    host: GetHost, without_pynvml: None, tmp_path: Path
) -> None:
    spec = tmp_path / "nvidia.json"
    done = looking.run("generate", "-o", str(spec), host_root=str(host("550-8gpu").root))
    assert done.returncode == 0
    assert "Python module" not in done.stderr


def test_requirement_facts_without_pynvml_are_missing_with_the_reason(
    host: GetHost, without_pynvml: None
) -> None:
    done = looking.run(
        "inventory", "--requirement-facts", host_root=str(host("550-mig-mixed").root)
    )
    inventory = load(done.stdout)
    assert [gpu.compute_capability for gpu in inventory.gpus] == [None, None, None]
    assert [gpu.mig_enabled for gpu in inventory.gpus] == [False, True, True]
    assert [(each.name, each.reason) for each in inventory.missing] == [
        ("the compute capability of the GPUs", f"unknown: {PYNVML_MISSING}")
    ]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nvmlInit = None\n", "the Python module pynvml is too old to know MIG; install "),
        ("print 'Python 2'\n", "the Python module pynvml cannot be imported: Missing parentheses"),
    ],
    ids=["7.352 of Ubuntu 22.04", "7.352 of PyPI, which is for Python 2"],
)
def test_generate_with_an_old_pynvml_leaves_out_mig_devices_and_gives_the_reason(
    host: GetHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    replace_pynvml(tmp_path, monkeypatch, source)
    done = looking.run("generate", host_root=str(host("550-mig-mixed").root))
    assert done.returncode == 4
    assert f"left out: MIG devices of GPU 1 at 0000:1e:00.0: {reason}" in done.stderr
    assert "Traceback" not in done.stderr
