# SPDX-License-Identifier: Apache-2.0
"""The host's facts for NVIDIA_REQUIRE_*: as the shim takes them, and as the hook does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cdi_base.requirement import Facts
from cdi_gen.catalogue import catalogue
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.generate import generate
from cdi_gen.generate.options import Options
from cdi_gen.generate.requirements import facts, hook_options
from cdi_gen.inventory import HookProgram, Inventory, json_form
from cdi_gen.paths import HostPath
from cdi_hook import __main__ as hook
from tests.host.looking import driver_of

REPOSITORY = Path(__file__).resolve().parents[3]
CHECKED = Options(enabled_hooks=("check-requirements",))


def golden(name: str) -> Inventory:
    path = REPOSITORY / "specs/golden" / name / "inventory.json"
    return json_form.load(path.read_text(encoding="utf-8"))


def asked(inventory: Inventory) -> Inventory:
    """The same host, of which NVML and libcuda were asked."""
    return replace(
        inventory,
        driver=replace(driver_of(inventory), cuda_version="13.0"),
        gpus=tuple(replace(g, compute_capability="9.0", brand="vws") for g in inventory.gpus),
    )


def test_what_was_asked_for() -> None:
    inventory = asked(golden("h200-580-1gpu"))
    (gpu,) = inventory.gpus
    assert facts(inventory) == {
        "cuda": "13.0",
        "driver": driver_of(inventory).version,
        "gpus": [{"index": 0, "minor": gpu.minor, "uuid": gpu.uuid, "arch": "9.0", "brand": "vws"}],
    }
    assert hook_options(inventory) == [
        "--host-cuda-version=13.0",
        f"--host-driver-version={driver_of(inventory).version}",
        f"--gpu={gpu.minor}:9.0:vws",
    ]


@pytest.mark.parametrize(
    ("host", "cuda", "brand"),
    [
        ("debian-bookworm-tesla-470-2gpu", "11.4", "tesla"),
        ("flat-550-1gpu", "12.4", "nvidia"),
        ("h200-580-1gpu", "13.0", "nvidia"),
    ],
)
def test_what_can_be_told_without_asking(host: str, cuda: str, brand: str) -> None:
    found = facts(golden(host))
    assert found["cuda"] == cuda
    assert {(gpu["arch"], gpu["brand"]) for gpu in found["gpus"]} == {(None, brand)}


def test_what_can_not_be_told() -> None:
    inventory = golden("flat-550-1gpu")
    inventory = replace(
        inventory,
        driver=replace(driver_of(inventory), version="999.1", library_version="999.1"),
        gpus=tuple(replace(gpu, model="NVIDIA Graphics Device") for gpu in inventory.gpus),
    )
    found = facts(inventory)
    assert (found["cuda"], found["driver"], found["gpus"][0]["brand"]) == (None, "999.1", None)
    assert hook_options(inventory) == ["--host-driver-version=999.1", "--gpu=0::"]


@pytest.mark.parametrize("host", ["flat-550-mig-mixed", "h200-580-4gpu"])
@pytest.mark.parametrize("was_asked", [True, False])
def test_the_shim_and_the_hook_read_the_same(host: str, was_asked: bool) -> None:
    inventory = asked(golden(host)) if was_asked else golden(host)
    document = json.loads(json.dumps(facts(inventory)))
    told = Facts.from_document(document)
    ((_, _, plan),) = hook.plan(
        "check-requirements", hook.HOOKS["check-requirements"], hook_options(inventory)
    )
    read = plan.facts  # type: ignore[attr-defined]
    assert (read.cuda, read.driver) == (told.cuda, told.driver)
    assert [(g.minor, g.arch, g.brand) for g in read.gpus] == [
        (g.minor, g.arch, g.brand) for g in told.gpus
    ]


def test_it_is_a_step_only_where_it_is_enabled() -> None:
    inventory = golden("flat-550-1gpu")
    (plain,) = generate(inventory).container_edits.hooks
    assert not any("requirements" in word or "--gpu" in word for word in plain.args)
    (checked,) = generate(inventory, CHECKED).container_edits.hooks
    assert checked.args[2] == "--check-requirements"
    assert set(plain.args) < set(checked.args)
    alone = CHECKED._replace(disabled_hooks=("all",))
    (only,) = generate(inventory, alone).container_edits.hooks
    assert only.args == (
        "cdi-gen-hook",
        "create-container",
        "--check-requirements",
        *hook_options(inventory),
    )


@pytest.mark.parametrize("path", ["/usr/bin/nvidia-cdi-hook", "/usr/bin/nvidia-ctk"])
def test_nvidias_hooks_have_no_step_that_checks_requirements(path: str) -> None:
    inventory = replace(golden("flat-550-1gpu"), hook=HookProgram(path=HostPath(path)))
    with pytest.raises(UsageError, match="has no step check-requirements"):
        generate(inventory, CHECKED)


@pytest.mark.parametrize(
    ("field", "value"),
    [("compute_capability", "9:0"), ("compute_capability", ""), ("brand", "a:b"), ("brand", "")],
)
def test_an_unsound_inventory_is_refused(field: str, value: str) -> None:
    inventory = golden("flat-550-1gpu")
    gpus = tuple(replace(gpu, **{field: value}) for gpu in inventory.gpus)  # type: ignore[arg-type]
    with pytest.raises(CdiGenError, match="inventory is invalid"):
        generate(replace(inventory, gpus=gpus))


def test_an_unsound_version_is_refused() -> None:
    inventory = golden("flat-550-1gpu")
    driver = replace(driver_of(inventory), cuda_version="13.0 --x")
    with pytest.raises(CdiGenError, match="cudaVersion"):
        generate(replace(inventory, driver=driver))


def test_the_facts_survive_json() -> None:
    inventory = asked(golden("h200-580-4gpu"))
    assert json_form.load(json_form.dump(inventory)) == inventory


def test_the_table_of_cuda_versions_rises() -> None:
    table = catalogue().cuda_versions
    pairs = [(int(branch), tuple(map(int, cuda.split(".")))) for branch, cuda in table.items()]
    assert pairs == sorted(pairs)
    assert [cuda for _, cuda in pairs] == sorted(cuda for _, cuda in pairs)


def test_the_table_is_the_release_notes() -> None:
    table = catalogue().cuda_versions
    reference = REPOSITORY / "tests/parity/reference/cuda_driver_versions.json"
    releases = json.loads(reference.read_text(encoding="utf-8"))
    assert len(releases) == 64
    for release in releases:
        assert table[release["driver"].partition(".")[0]] == release["cuda"]
