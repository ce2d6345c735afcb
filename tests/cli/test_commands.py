# SPDX-License-Identifier: Apache-2.0
"""``list`` of an inventory, and what ``generate`` tells instead of writing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cdi_gen.cdi.wire import load
from tests.cli.program import CHECKOUT, GOLDEN, INVENTORY, MIG, SPEC, cdi_gen, failure, generate


def _list(*arguments: str) -> str:
    found = cdi_gen("list", "--inventory", str(MIG / "inventory.json"), *arguments)
    assert (found.code, found.err.count("\n")) == (4, 1)
    assert (
        "warning: left out: GPU 2 at 0000:21:00.0: MIG is enabled, but the GPU has no" in found.err
    )
    return found.out


def test_the_table_is_aligned_and_complete() -> None:
    header, *rows = _list().splitlines()
    assert header.split("  ")[0] == "DEVICE"
    starts = [header.index(word) for word in ("INDEX", "MINOR", "UUID", "PCI ADDRESS", "MODEL")]
    for row in rows:
        assert all(row[start - 1] == " " and row[start] != " " for start in starts)
    wide = _list("-o", "wide").splitlines()
    assert wide[0].split()[-1] == "NODES"
    assert len(wide) == len(rows) + 1
    assert all("/dev/nvidia" in row for row in wide[1:])


def test_the_forms_say_the_same() -> None:
    document = json.loads(_list("-o", "json"))
    assert yaml.safe_load(_list("-o", "yaml")) == document
    names = _list("-o", "name").splitlines()
    assert [f"nvidia.com/gpu={name}" for row in document for name in row["names"]] == names[:-2]
    assert [row["device"] for row in document] == [
        row.split()[0] for row in _list().splitlines()[1:]
    ]


def test_every_listed_name_is_in_the_spec() -> None:
    """And the other way round."""
    spec = load((MIG / "nvidia.json").read_text())
    assert sorted(_list("-o", "name").split()) == sorted(
        f"{spec.kind}={device.name}" for device in spec.devices
    )


def test_another_kind() -> None:
    assert _list("--vendor", "example.org", "--class", "x", "-o", "name").startswith(
        "example.org/x="
    )


def test_a_host_root_that_is_not_there(tmp_path: Path) -> None:
    said = failure(cdi_gen("generate", "--host-root", str(tmp_path / "none")), 1)
    assert f"--host-root: no such directory: {tmp_path}/none" in said


def test_a_dry_run_shows_the_difference_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "nvidia.json"
    new = generate("--dry-run", "-o", str(path))
    assert new.code == 5
    assert not path.exists()
    assert "".join(line[1:] for line in new.out.splitlines(keepends=True)[3:]) == SPEC
    assert "dry run, nothing written: nvidia.com/gpu in" in new.err
    path.write_text(SPEC)
    same = generate("--dry-run", "-o", str(path))
    assert (same.code, same.out) == (0, "")
    other = generate("--dry-run", "-o", str(path), "--vendor", "example.org").out
    assert '-  "kind": "nvidia.com/gpu",\n+  "kind": "example.org/gpu",\n' in other
    assert path.read_text() == SPEC


def test_a_dry_run_into_a_directory_that_is_not_there_makes_none(tmp_path: Path) -> None:
    assert generate("--dry-run", "-o", str(tmp_path / "cdi" / "nvidia.json")).code == 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", sorted(path.name for path in GOLDEN.iterdir()))
@pytest.mark.parametrize("flags", [(), ("--capabilities", "utility")])
def test_explain_accounts_for_every_file_of_the_spec(host: str, flags: tuple[str, ...]) -> None:
    arguments = ("generate", "--inventory", str(GOLDEN / host / "inventory.json"), *flags)
    found = cdi_gen(*arguments, "--explain")
    assert (found.code, found.err) == (0, "")
    rows = [line.split(maxsplit=2) for line in found.out.splitlines()]
    assert all(len(row) == 3 for row in rows), "each with a reason"
    taken = {what for verdict, what, _ in rows if verdict == "taken"}
    spec = load(cdi_gen(*arguments).out)
    mounted = {mount.host_path for mount in spec.container_edits.mounts}
    nodes = {node.path for node in spec.container_edits.device_nodes}
    assert mounted | nodes <= taken
    left = {what for verdict, what, _ in rows if verdict == "left"}
    assert not (mounted | nodes) & left
    assert not flags or any("libcuda.so" in what for what in left)


@pytest.mark.parametrize(
    ("engine", "newest", "groups"),
    [("podman@4.9", "0.5.0", False), ("docker@25", "0.5.0", False), ("podman@5.5", "0.7.0", True)],
)
def test_for_an_engine(engine: str, newest: str, groups: bool) -> None:
    found = generate("--for", engine)
    assert found.code == 0
    assert load(found.out).cdi_version == newest
    assert ("additionalGids" in found.out) == groups


def test_for_an_engine_that_knows_no_names_with_a_digit_first() -> None:
    inventory = str(GOLDEN / "server-550-4gpu-headless" / "inventory.json")
    old = ("generate", "--inventory", inventory, "--for", "podman@4.2")
    assert "--device-name-strategy type-index" in failure(cdi_gen(*old), 1)
    found = cdi_gen(*old, "--device-name-strategy", "type-index", "--no-all-device")
    assert found.code == 0
    assert load(found.out).cdi_version == "0.4.0"
    assert [device.name for device in load(found.out).devices] == ["gpu0", "gpu1", "gpu2", "gpu3"]


def test_the_output_of_an_inventory_is_safe_too(tmp_path: Path) -> None:
    """What is not there cannot be looked at, and the old file stays."""
    path = tmp_path / "host.json"
    path.write_text("old")
    failure(cdi_gen("inventory", "--host-root", str(CHECKOUT / "docs"), "-o", str(path)), 3)
    assert path.read_text() == "old"


def test_an_inventory_of_another_host_takes_the_hook_that_it_is_told_of() -> None:
    found = cdi_gen("generate", "--inventory", INVENTORY, "--nvidia-cdi-hook-path", "/opt/hook")
    assert found.code == 0
    assert [hook.path for hook in load(found.out).container_edits.hooks] == ["/opt/hook"]
    shown = cdi_gen("show", "0", "--inventory", INVENTORY, "--nvidia-cdi-hook-path", "/opt/hook")
    assert "hook    createContainer: /opt/hook " in shown.out


@pytest.mark.parametrize("command", [["generate"], ["list"], ["show", "0"]])
@pytest.mark.parametrize(
    "option", ["--driver-root", "--dev-root", "--library-search-path", "--config-search-path",
               "--host-root"],
)  # fmt: skip
def test_where_to_look_makes_no_sense_beside_an_inventory(command: list[str], option: str) -> None:
    said = failure(cdi_gen(*command, "--inventory", INVENTORY, option, "/opt"), 2)
    assert f"{option} has no effect with --inventory: this host is not searched" in said
    environment = {"NVIDIA_CTK_DRIVER_ROOT": "/opt"}
    assert cdi_gen(*command, "--inventory", INVENTORY, env=environment).code == 0
