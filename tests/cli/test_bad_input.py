# SPDX-License-Identifier: Apache-2.0
"""What strangers type and feed: one clear line, a hint, the documented exit code, and soon."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.cli import run
from cdi_gen.inventory.json_form import FORMAT_VERSION
from tests.cli.program import CHECKOUT, INVENTORY, ONE_GPU, SPEC, cdi_gen, failure, generate

TEXT = (ONE_GPU / "inventory.json").read_text()
SOON = 10.0
"""Seconds; a tenth of one on an idle machine."""


def _refused(code: int, *arguments: str, **how: Any) -> str:
    started = time.monotonic()
    found = cdi_gen(*arguments, **how)
    assert time.monotonic() - started < SOON
    return failure(found, code)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--vendr", "x"], "'--vendor'"),
        (["--device-ids=7"], "this host has no device 7"),
        (["--format", "xml"], "'xml' is not one of 'json', 'yaml'"),
        (["--hooks", "maybe"], "'maybe' is not one of 'auto', 'none'"),
        (["--device-name-strategy", "name"], "'index', 'uuid', 'pci', 'type-index'"),
        (["--vendor", "a b"], "vendor 'a b' has ' ' at character 2"),
        (["--vendor", ""], "the vendor is empty"),
        (["--vendor", "n"], "of a single letter"),
        (["--class", "g/p"], "class 'g/p' has '/'"),
        (["--for", "frobnicator"], "the engines are podman, docker"),
        (["--for", "podman@new"], "for example: podman@4.9.3"),
        (["--for", "podman@3.0"], "podman 3.0 is too old: the oldest release is 4.1.0"),
        (["--for", "@1"], "unknown engine ''"),
        (["--capabilities", "teleport"], "the capabilities are all, compute"),
        (["--capabilities", "compute;utility"], "unknown driver capability: compute;utility"),
        (["--device-id", ""], "this host has no device"),
        (["--enable-hook", "all"], "give the names of the hooks"),
        (["--enable-hook", "chmood"], "unknown hook: chmood"),
        (["--disable-hook", "x"], "the hooks are check-requirements, create-symlinks"),
        (["--mode", "csv"], "not supported by this version"),
        (["--mode", "quantum"], "unknown mode quantum"),
        (["--feature-flag", "x"], "unknown feature flag: x"),
        (["--driver-root", "driver"], "'driver' is not an absolute path"),
        (["--nvidia-cdi-hook-path", "hook"], "'hook' is not an absolute path"),
        (["surplus"], "unexpected extra argument (surplus)"),
        (["--output"], "requires an argument"),
    ],
)
def test_flags(flags: list[str], told: str) -> None:
    assert told in _refused(2, "generate", "--inventory", INVENTORY, *flags)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generat"], "unknown command 'generat'; did you mean generate?"),  # codespell:ignore
        (["cdi", "lst"], "did you mean list?"),
        (["frobnicate"], "unknown command 'frobnicate'"),
        (["hook", "instal"], "'instal'"),  # codespell:ignore
        (["validate"], "Missing argument 'FILE...'"),
        (["show"], "Missing argument 'NAME'"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'fish', 'zsh'"),
        (["list", "-o", "html"], "'html' is not one of 'table', 'wide', 'json'"),
        (["list", "--spec-dir", "cdi"], "'cdi' is not an absolute path"),
        (["--log-format", "xml", "list"], "'xml' is not one of 'text', 'json'"),
        (["show", "7", "--inventory", INVENTORY], f"cdi-gen list --inventory {INVENTORY}"),
        (["hook", "install", "--python", "python3"], "'python3' is not an absolute path"),
    ],
)
def test_commands(words: list[str], told: str) -> None:
    assert told in _refused(2, *words)


def test_a_format_that_fits_no_extension_is_only_a_warning(tmp_path: Path) -> None:
    found = generate("--format", "yaml", "-o", str(tmp_path / "a.json"))
    assert (found.code, (tmp_path / "a.json").read_text()) == (0, SPEC)


def test_no_capability_is_only_the_device_nodes() -> None:
    assert "--capabilities is empty" in failure(generate("--capabilities", " ,"), 2)
    found = generate("--capabilities", "none")
    assert found.code == 0
    assert "libcuda.so" not in json.dumps(json.loads(found.out)["containerEdits"].get("mounts"))


def test_an_inventory_cut_short_anywhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In this process, for there are some 300 of them."""
    path = tmp_path / "host.json"
    for size in range(0, len(TEXT.rstrip()), 100):
        path.write_text(TEXT[:size])
        assert run(["generate", "--inventory", str(path)]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith(f"cdi-gen: error: {path}: the inventory is not valid JSON: ")
        assert "the file is perhaps truncated" in told.err
        assert len(told.err.splitlines()) == 2


def _changed(**changes: object) -> str:
    return json.dumps(json.loads(TEXT) | changes)


def _gpu(**changes: object) -> str:
    return _changed(gpus=[json.loads(TEXT)["gpus"][0] | changes])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", ".formatVersion: not a version number"),
        (SPEC, ".formatVersion: not a version number"),
        (_changed(formatVersion=FORMAT_VERSION + 1), "this cdi-gen reads up to"),
        (_changed(formatVersion="1"), ".formatVersion: not a version number"),
        (_changed(gpus={}), ".gpus: expected a list"),
        (_changed(driver="550.163.01"), ".driver: expected an object"),
        (_gpu(minor="0"), ".gpus[0].minor: expected an integer"),
        (_gpu(minor=True), ".gpus[0].minor: expected an integer"),
        (_gpu(minor=0.0), ".gpus[0].minor: expected an integer"),
        (_gpu(model=None), ".gpus[0].model: expected a string"),
        (_gpu(model="\033[31m"), ".gpus[0].model: contains a control character"),
        (_gpu(colour="green"), ".gpus[0].colour: unknown field"),
        (_gpu(minor=0).replace('"minor": 0', '"minor": NaN'), "NaN is not a JSON number"),
        (_gpu(minor=0).replace('"minor": 0', f'"minor": {"9" * 5000}'), "not valid JSON"),
        (_gpu().replace('"model":', '"mode":'), ".gpus[0].mode: unknown field"),
        ("[" * 1_000_000, "nested too deep"),
        ('{"a":' * 200_000, "nested too deep"),
        (" " * (20 << 20), "larger than 16 MiB"),
        (TEXT.encode("utf-16"), "not UTF-8 text"),
        (b"\xff" * 100, "not UTF-8 text"),
        (b"\0" * 100, "not valid JSON"),
        (b"\xef\xbb\xbf" + TEXT.encode(), "not valid JSON"),
    ],
)
def test_what_is_no_inventory(tmp_path: Path, content: str | bytes, told: str) -> None:
    path = tmp_path / "host.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = _refused(1, "generate", "--inventory", str(path))
    assert told in said
    assert str(path) in said


@pytest.mark.parametrize("command", ["generate", "list", "show 0"])
def test_where_no_inventory_is(tmp_path: Path, command: str) -> None:
    for path, told in ((tmp_path, "Is a directory"), (tmp_path / "a", "No such file or directory")):
        said = _refused(1, *command.split(), "--inventory", str(path))
        assert f"cannot read the inventory {path}: {told}" in said
        assert "hint: make an inventory with: cdi-gen inventory -o FILE" in said


def test_an_inventory_from_standard_input() -> None:
    assert cdi_gen("generate", "--inventory", "-", input=TEXT.encode()).out == SPEC
    said = failure(cdi_gen("generate", "--inventory", "-", input=b"{"), 1)
    assert "error: standard input: the inventory is not valid JSON" in said


def test_an_inventory_from_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "inventory"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=[TEXT])
    writer.start()
    assert cdi_gen("generate", "--inventory", str(fifo)).out == SPEC
    writer.join()


@pytest.mark.parametrize(
    "inventory", sorted(path.parent.name for path in (CHECKOUT / "specs/golden").glob("*/inv*"))
)
def test_no_bundled_inventory_is_bad(inventory: str) -> None:
    """The counterpart: everything above would pass if every inventory was refused."""
    folder = CHECKOUT / "specs/golden" / inventory
    # One of its GPUs has MIG enabled and nothing to give.
    code = 4 if inventory == "flat-550-mig-mixed" else 0
    found = cdi_gen("generate", "--inventory", str(folder / "inventory.json"))
    assert (found.code, found.out) == (code, (folder / "nvidia.json").read_text())
