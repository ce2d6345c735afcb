# SPDX-License-Identifier: Apache-2.0
"""The specs that are generated for the recorded hosts of ``specs/golden``, byte for byte.

``pytest tests/golden --update-golden`` updates the files. The diff of the files is the change in
behaviour, which a reviewer reads.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.cdi import wire
from cdi_gen.cdi.validation import check_text
from cdi_gen.generate import generate, generate_capabilities
from cdi_gen.generate.modes import transports
from cdi_gen.generate.options import Options
from cdi_gen.inventory import HookProgram, Inventory, json_form
from cdi_gen.paths import HostPath

GOLDEN = Path(__file__).resolve().parents[2] / "specs/golden"
HOOK = HookProgram(path=HostPath("/usr/libexec/cdi-gen/cdi-gen-hook"))

FAKE_HOSTS = {
    "debian-bookworm-tesla-470-2gpu": "470-tesla",
    "debian-trixie-550-8gpu": "550-debian",
    "flat-550-1gpu": "550-1gpu",
    "flat-550-mig-mixed": "550-mig-mixed",
    "gpu-operator-550-2gpu": "550-operator",
    "hgx-550-8gpu": "550-hgx",
    "nixos-550-1gpu": "550-nixos",
    "server-550-4gpu-headless": "550-server",
    "usr-local-550-1gpu": "550-usr-local",
}
"""Golden hosts that are laid out as a fake host; the others were real."""


def _yaml(inventory: Inventory) -> str:
    return wire.dump(generate(inventory), "yaml")


def _nohooks(inventory: Inventory) -> str:
    return wire.dump(generate(inventory, Options(hooks=False)))


def _cap(inventory: Inventory) -> str:
    return wire.dump(generate_capabilities(inventory, Options(class_="cap")))


def _transport(mode: str) -> Callable[[Inventory], str]:
    def dumped(inventory: Inventory) -> str:
        spec = transports.spec(mode, inventory)
        return wire.dump(spec) if spec else ""

    return dumped


def _tree(inventory: Inventory) -> str:
    return wire.dump(generate(inventory, Options(form="tree")))


def _tree_nohooks(inventory: Inventory) -> str:
    return wire.dump(generate(inventory, Options(form="tree", hooks=False)))


OUTPUTS: dict[str, Callable[[Inventory], str]] = {
    "nvidia.json": lambda inventory: wire.dump(generate(inventory)),
    "nvidia.yaml": _yaml,
    "nohooks.json": _nohooks,
    "cap.json": _cap,
    "tree.json": _tree,
    "tree-nohooks.json": _tree_nohooks,
    **{f"{transports.transport(mode).class_}.json": _transport(mode) for mode in transports.MODES},
}
REQUIRED = ("inventory.json", "nvidia.json")
SHOWN_BY = dict.fromkeys(("nvidia.yaml", "tree.json", "tree-nohooks.json"), "flat-550-1gpu") | {
    f"{transports.transport(mode).class_}.json": "hgx-550-8gpu" for mode in transports.MODES
}
"""Of the fake hosts, one shows the other format and form, and one has all transports."""


def hosts() -> list[str]:
    return sorted({path.name for path in GOLDEN.iterdir() if path.is_dir()} | FAKE_HOSTS.keys())


def outputs() -> list[tuple[str, str]]:
    found = []
    for name in hosts():
        wanted = [each for each in OUTPUTS if SHOWN_BY.get(each, name) == name]
        there = {path.name for path in (GOLDEN / name).glob("*")}
        found += [
            (name, each)
            for each in OUTPUTS
            if each in there or (name in FAKE_HOSTS and each in wanted)
        ]
    return found


@pytest.fixture
def update(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--update-golden"))


# Before the outputs: with --update-golden they are made of what this one wrote.
@pytest.mark.host
@pytest.mark.parametrize("name", sorted(FAKE_HOSTS))
def test_the_host_is_seen_as_ever(look: Callable[..., Inventory], name: str, update: bool) -> None:
    inventory = dataclasses.replace(look(FAKE_HOSTS[name]), hook=HOOK)
    path = GOLDEN / name / "inventory.json"
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json_form.dump(inventory), encoding="utf-8")
    assert json_form.dump(inventory) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "output"), outputs())
def test_the_output_is_as_ever(name: str, output: str, update: bool) -> None:
    inventory = json_form.load((GOLDEN / name / "inventory.json").read_text(encoding="utf-8"))
    text = OUTPUTS[output](inventory)
    path = GOLDEN / name / output
    if update:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", hosts())
def test_nothing_lies_there_that_is_not_compared(name: str) -> None:
    there = {path.name for path in (GOLDEN / name).iterdir()}
    assert there <= {"inventory.json", *OUTPUTS}
    assert there >= set(REQUIRED)


@pytest.mark.parametrize(("name", "output"), outputs())
def test_the_output_is_a_spec_that_engines_take(name: str, output: str) -> None:
    problems = check_text((GOLDEN / name / output).read_text(encoding="utf-8"))
    assert not [each for each in problems if each.severity != "warning"]
    spec = wire.load((GOLDEN / name / output).read_text(encoding="utf-8"))
    # 0.3.0 without a mount; 0.4.0 for their type; 0.5.0 for names that start with a digit.
    assert spec.cdi_version in ("0.3.0", "0.4.0", "0.5.0")


@pytest.mark.parametrize(("name", "output"), outputs())
def test_every_mount_says_that_it_is_a_bind_mount(name: str, output: str) -> None:
    spec = wire.load((GOLDEN / name / output).read_text(encoding="utf-8"))
    edits = [spec.container_edits, *(each.container_edits for each in spec.devices)]
    assert {mount.type for each in edits for mount in each.mounts} <= {"bind"}


@pytest.mark.parametrize("name", hosts())
def test_the_inventory_is_as_it_would_be_written(name: str) -> None:
    """The inventories of real hosts stay in format 1, as proof that old formats are read."""
    text = (GOLDEN / name / "inventory.json").read_text(encoding="utf-8")
    inventory = json_form.load(text)
    assert json_form.load(json_form.dump(inventory)) == inventory
    if name in FAKE_HOSTS:
        assert json_form.dump(inventory) == text
    else:
        assert json.loads(text)["formatVersion"] == 1


def test_every_golden_host_is_described() -> None:
    text = (GOLDEN.parent / "README.md").read_text(encoding="utf-8")
    assert not [name for name in hosts() if f"`{name}`" not in text]
