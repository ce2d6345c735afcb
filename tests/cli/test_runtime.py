# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen runtime prepare`, on this machine and on fake ones."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cdi_base import host_fingerprint
from cdi_base.cdi import spec_directories
from cdi_gen.cdi.wire import from_document
from cdi_gen.errors import CdiGenError
from cdi_gen.programs import prepare
from cdi_gen.store import conversions
from tests.cli.program import INVENTORY, SPEC, cdi_gen, failure
from tests.fakehost.hosts import FakeHost
from tests.runtime.machine import Machine

HAS_DRIVER = Path("/proc/driver/nvidia/version").exists()
no_driver = pytest.mark.skipif(HAS_DRIVER, reason="this machine has a driver")


@no_driver
def test_there_is_no_driver() -> None:
    said = failure(cdi_gen("runtime", "prepare", "-o", "-", "--spec-dir", "/nowhere"), 3)
    assert "no NVIDIA driver" in said


@no_driver
def test_yaml_is_converted_where_there_is_no_driver(tmp_path: Path) -> None:
    """The spec may be another vendor's, or one that nvidia-ctk wrote for a Jetson."""
    text = yaml.safe_dump(json.loads(SPEC))
    (tmp_path / "good.yaml").write_text(text)
    (tmp_path / "good.json").write_text(text)
    (tmp_path / "json.yaml").write_text(SPEC)
    (tmp_path / "bad.yaml").write_text("kind: [")
    (tmp_path / "ignored.yaml").write_text(text.replace("0.5.0", "0.3.0"))
    (tmp_path / "not-read.yml").write_text(text)
    os.mkfifo(tmp_path / "pipe.yaml")
    result = cdi_gen("runtime", "prepare", "-o", "-", "--spec-dir", str(tmp_path))
    assert result.code == 0, result
    document = json.loads(result.out)
    converted = {path.rpartition("/")[2]: made for path, made in document["converted"].items()}
    assert converted.keys() == {"good.yaml", "good.json", "bad.yaml", "ignored.yaml"}
    for name in ("good.yaml", "good.json"):
        assert converted[name]["document"] == json.loads(SPEC)
        assert converted[name]["stamp"] == spec_directories.stamp(os.stat(tmp_path / name))
    assert "line 2, column 1" in converted["bad.yaml"]["problem"]
    assert "engines ignore it: .cdiVersion: claims 0.3.0" in converted["ignored.yaml"]["problem"]
    assert document["specs"] == []
    assert "no NVIDIA driver" in document["problem"]
    assert "modprobe" in document["problem"]


def test_flags_that_nobody_knows_are_let_pass(tmp_path: Path) -> None:
    """As nvidia-container-runtime does: config.toml may be of another version."""
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(json.loads(SPEC)))
    words = ("--feature-flag", "new", "--disable-hook", "newer", "--spec-dir", str(tmp_path))
    result = cdi_gen("runtime", "prepare", "-o", "-", *words)
    assert "unknown feature flag new, ignored" in result.err


@pytest.mark.parametrize("option", ["--driver-root", "--spec-dir", "--nvidia-cdi-hook-path"])
def test_paths_are_absolute(option: str) -> None:
    assert "not an absolute path" in failure(cdi_gen("runtime", "prepare", option, "here"), 2)


@no_driver
@pytest.mark.skipif(os.geteuid() != 0, reason="writes as root, or cannot")
def test_the_file(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(json.loads(SPEC)))
    target = tmp_path / "run/runtime.json"
    result = cdi_gen("runtime", "prepare", "-o", str(target), "--spec-dir", str(tmp_path))
    assert (result.code, result.out) == (0, "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o755
    assert json.loads(target.read_text())["converted"]


def test_it_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(json.loads(SPEC)))
    words = ("-o", "/proc/nowhere/runtime.json", "--spec-dir", str(tmp_path))
    assert "cannot write /proc/nowhere/runtime.json" in failure(
        cdi_gen("runtime", "prepare", *words), 1
    )


@pytest.fixture
def prepared_on(tmp_path: Path, host: Callable[[str], FakeHost]) -> Callable[..., dict[str, Any]]:
    """The document of a fake host."""
    if os.geteuid() != 0:
        pytest.skip("a mount namespace is root's")

    def prepared(name: str, *words: str) -> dict[str, Any]:
        tmp_path.chmod(0o755)
        machine = Machine(tmp_path, host(name))
        ended = machine.run(
            str(machine.folder / "bin/cdi-gen"), "runtime", "prepare", "-o", "-",
            f"--driver-root={machine.host_root}", f"--spec-dir={machine.specs}",
            f"--nvidia-cdi-hook-path={machine.installed}/cdi-gen-hook", *words,
        )  # fmt: skip
        assert ended.returncode == 0, ended
        found: dict[str, Any] = json.loads(ended.stdout)
        return found

    return prepared


@pytest.mark.host
def test_specs_and_facts_of_a_host(prepared_on: Callable[..., dict[str, Any]]) -> None:
    document = prepared_on("550-8gpu")
    gpus, capabilities = document["specs"][:2]
    for spec in document["specs"]:
        from_document(spec)
    assert gpus["kind"] == "nvidia.com/gpu"
    assert {"0", "7", "all", "none"} <= {each["name"] for each in gpus["devices"]}
    mounted = [each["containerPath"] for each in gpus["containerEdits"].get("mounts", [])]
    assert not [path for path in mounted if "libcuda.so" in path]
    assert capabilities["kind"] == "nvidia.com/cap"
    assert "compute" in [each["name"] for each in capabilities["devices"]]
    assert [each["minor"] for each in document["facts"]["gpus"]] == [*range(8)]
    assert document["facts"]["driver"].startswith("550.")
    (hook,) = gpus["containerEdits"]["hooks"]
    assert hook["path"].endswith("/libexec/cdi-gen/cdi-gen-hook")


@pytest.mark.host
def test_hooks_are_left_out(prepared_on: Callable[..., dict[str, Any]]) -> None:
    document = prepared_on("550-1gpu", "--disable-hook=update-ldcache")
    (hook,) = document["specs"][0]["containerEdits"]["hooks"]
    assert "--folder" not in hook["args"]
    assert "--link" in hook["args"]


@pytest.fixture
def machine_of(tmp_path: Path, host: Callable[[str], FakeHost]) -> Callable[[str], Machine]:
    """A machine with the procfs and devices of a fake host."""
    if os.geteuid() != 0:
        pytest.skip("a mount namespace is root's")
    tmp_path.chmod(0o755)
    return lambda name: Machine(tmp_path, host(name))


@pytest.mark.host
def test_the_inventory_of_a_host_gives_its_specs_and_facts(
    machine_of: Callable[[str], Machine],
) -> None:
    """Also the MIG access nodes come from the inventory, and from nowhere else."""
    machine = machine_of("550-mig-mixed")
    program = str(machine.folder / "bin/cdi-gen")
    host_words = (
        f"--driver-root={machine.host_root}",
        f"--nvidia-cdi-hook-path={machine.installed}/cdi-gen-hook",
    )
    prepared = machine.run(
        program, "runtime", "prepare", "-o", "-", *host_words, f"--spec-dir={machine.specs}"
    )
    inventory = machine.run(program, "inventory", "--requirement-facts", *host_words)
    (machine.folder / "host.json").write_text(inventory.stdout)
    reproduced = cdi_gen(
        "runtime", "prepare", "-o", "-", "--inventory", str(machine.folder / "host.json")
    )
    assert reproduced.code == 0, reproduced
    on_host, elsewhere = json.loads(prepared.stdout), json.loads(reproduced.out)
    assert elsewhere["specs"] == on_host["specs"]
    assert elsewhere["facts"] == on_host["facts"]
    kinds = [spec["kind"] for spec in elsewhere["specs"]]
    assert kinds[:2] == ["nvidia.com/gpu", "nvidia.com/cap"]
    assert kinds[-1] == "nvidia.com/mig"
    assert [device["name"] for device in elsewhere["specs"][-1]["devices"]] == ["config", "monitor"]
    # No shim takes it for the document of the host that it runs on.
    assert (elsewhere["key"], elsewhere["converted"]) == (None, {})
    assert on_host["key"]


def test_hooks_are_left_out_of_what_an_inventory_gives() -> None:
    words = ("--inventory", INVENTORY, "-o", "-", "--disable-hook=update-ldcache")
    document = json.loads(cdi_gen("runtime", "prepare", *words).out)
    (hook,) = document["specs"][0]["containerEdits"]["hooks"]
    assert "--folder" not in hook["args"]


@pytest.mark.parametrize("words", [(), ("-o", prepare.PATH)])
def test_the_file_of_this_host_is_not_made_from_an_inventory(words: tuple[str, ...]) -> None:
    message = failure(cdi_gen("runtime", "prepare", "--inventory", INVENTORY, *words), 2)
    assert f"--inventory cannot be used for {prepare.PATH}" in message


def test_an_inventory_and_a_place_to_look_contradict_each_other() -> None:
    words = ("--inventory", INVENTORY, "-o", "-", "--driver-root", "/x")
    assert "--driver-root" in failure(cdi_gen("runtime", "prepare", *words), 2)


def test_the_key_is_of_before_the_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What changes while the host is looked at makes another preparation due."""
    order: list[str] = []
    monkeypatch.setattr(host_fingerprint, "key", lambda _: order.append("key"))

    def converted(_: object) -> dict[str, object]:
        order.append("yaml")
        return {"/etc/cdi/a.yaml": {}}

    monkeypatch.setattr(conversions, "of_directories", converted)
    (tmp_path / "x.yaml").write_text("")

    def look(_: object) -> None:
        order.append("look")
        raise CdiGenError("enough")

    monkeypatch.setattr(prepare, "gather", look)
    prepare.prepare(prepare.choices(hook="", spec_directories=(str(tmp_path),)))
    assert order == ["key", "yaml", "look"]
