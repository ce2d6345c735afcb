# SPDX-License-Identifier: Apache-2.0
"""What libcuda and NVML tell for NVIDIA_REQUIRE_*, asked only where it is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cdi_base import nvidia
from cdi_gen.host.driver import libcuda
from cdi_gen.inventory.json_form import load
from tests.fakehost import nvml_mock
from tests.fakehost.hosts import FakeHost
from tests.host import looking

GetHost = Callable[[str], FakeHost]

pytestmark = pytest.mark.host

CHECKED = ("--enable-hook", "check-requirements")
CUDA = {"550-8gpu": "12.4", "550-lib64": "12.4", "550-operator": "12.4", "550-mig-mixed": "12.4",
        "550-nogpu": "12.4", "535-bookworm": "12.2", "470-tesla": "11.4"}  # fmt: skip
"""As these drivers' libcuda says: it is the real one."""


@pytest.mark.parametrize("name", CUDA)
def test_the_facts_of_a_host(host: GetHost, name: str) -> None:
    fake = host(name)
    where: dict[str, Any] = {
        "host_root": str(fake.root),
        "driver_root": looking.driver_root_of(fake),
    }
    plain = load(looking.run("inventory", **where).stdout)
    assert looking.driver_of(plain).cuda_version is None
    assert {(gpu.compute_capability, gpu.brand) for gpu in plain.gpus} <= {(None, None)}
    found = load(looking.run("inventory", "--requirement-facts", **where).stdout)
    assert looking.driver_of(found).cuda_version == CUDA[name]
    assert [(gpu.compute_capability, gpu.brand) for gpu in found.gpus] == [
        ("{}.{}".format(*gpu.model.compute_capability), nvidia.BRANDS[gpu.model.brand])
        for gpu in fake.kernel.gpus
    ]
    assert_the_same_but_for_facts(**where)


def assert_the_same_but_for_facts(**where: Any) -> None:
    plain, asked = (
        json.loads(looking.run("inventory", *words, **where).stdout)
        for words in ((), ("--requirement-facts",))
    )
    for each in (asked["driver"], *asked.get("gpus", ())):
        for key in {"cudaVersion", "computeCapability", "brand"} & each.keys():
            del each[key]
    assert asked == plain


def test_the_devices_are_the_same_where_nvml_is_asked_for_facts_alone(own_host: GetHost) -> None:
    """It would say that a GPU is lost, and of another one that MIG is on: of GPUs without MIG."""
    fake = own_host("550-lib64")
    answers = fake.nvml.parent / nvml_mock.DESCRIPTION
    lines = answers.read_text().splitlines()
    for index, place, value in ((0, 11, nvml_mock.GPU_IS_LOST), (1, 10, 1)):
        words = lines[2 + index].split(" ")
        words[place] = str(value)
        lines[2 + index] = " ".join(words)
    answers.write_text("\n".join(lines) + "\n")
    assert_the_same_but_for_facts(host_root=str(fake.root))
    found = load(looking.run("inventory", "--requirement-facts", host_root=str(fake.root)).stdout)
    assert [gpu.compute_capability for gpu in found.gpus] == [None, "8.9"]
    assert [gpu.mig_enabled for gpu in found.gpus] == [False] * 2


def test_the_hook_is_told(own_host: GetHost) -> None:
    fake = own_host("550-lib64")
    program = fake.root / "usr/libexec/cdi-gen/cdi-gen-hook"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    spec = json.loads(looking.run("generate", *CHECKED, host_root=str(fake.root)).stdout)
    (hook,) = spec["containerEdits"]["hooks"]
    assert hook["args"][1:7] == [
        "create-container", "--check-requirements",
        "--host-cuda-version=12.4", "--host-driver-version=550.163.01",
        "--gpu=0:8.9:geforce", "--gpu=1:8.9:geforce",
    ]  # fmt: skip
    assert hook["args"].count("--host-driver-version=550.163.01") == 1


def test_nvml_that_does_not_answer_costs_only_its_facts(own_host: GetHost) -> None:
    fake = own_host("550-lib64")
    answers = fake.nvml.parent / nvml_mock.DESCRIPTION
    answers.write_text(answers.read_text().replace("init 0", "init 999"))
    found = load(looking.run("inventory", "--requirement-facts", host_root=str(fake.root)).stdout)
    assert looking.driver_of(found).cuda_version == "12.4"
    assert [(gpu.compute_capability, gpu.brand) for gpu in found.gpus] == [(None, None)] * 2


def test_libcuda_that_does_not_load_costs_only_its_fact(own_host: GetHost) -> None:
    fake = own_host("550-lib64")
    (library,) = {path.resolve() for path in fake.root.rglob("lib64/libcuda.so.550*")}
    of_another_machine = bytearray(library.read_bytes())
    of_another_machine[18:20] = b"\xb7\x00"
    library.unlink()
    library.write_bytes(of_another_machine)
    assert libcuda.newest_version(str(library)) is None


def test_a_library_that_others_can_change_is_not_loaded(own_host: GetHost) -> None:
    fake = own_host("550-lib64")
    (library,) = {path.resolve() for path in fake.root.rglob("lib64/libcuda.so.550*")}
    fake.root.chmod(0o777)
    assert libcuda.newest_version(str(library)) is None
    fake.root.chmod(0o755)
    assert libcuda.newest_version(str(library)) == "12.4"


def test_what_is_no_libcuda_has_no_version(host: GetHost) -> None:
    assert libcuda.newest_version(str(host("550-1gpu").nvml)) is None
    assert libcuda.newest_version("/nowhere/libcuda.so.1") is None
