# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen generate --mode gds|mofed|gdrcopy|nvswitch|imex``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cdi_gen.cdi.wire import load
from tests.cli.program import GOLDEN, Result, cdi_gen, failure

HGX = GOLDEN / "hgx-550-8gpu"
BARE = GOLDEN / "flat-550-1gpu"
CLASSES = {
    "gds": "gds",
    "mofed": "mofed",
    "gdrcopy": "gdrcopy",
    "nvswitch": "nvswitch",
    "imex": "imex-channel",
}


def made(mode: str, *words: str, host: Path = HGX, **more: Any) -> Result:
    return cdi_gen(
        "generate", "--mode", mode, "--inventory", str(host / "inventory.json"), *words, **more
    )


def golden(mode: str) -> str:
    return (HGX / f"{CLASSES[mode]}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", CLASSES)
def test_the_spec_of_a_mode(mode: str) -> None:
    found = made(mode)
    assert (found.code, found.out) == (0, golden(mode))
    assert found.err.startswith(f"cdi-gen: nvidia.com/{CLASSES[mode]}: ")
    assert "GPU" not in found.err
    assert made(mode.upper()).out == found.out
    assert made(mode, "--format", "yaml").out.startswith("---\n")


@pytest.mark.parametrize("mode", CLASSES)
def test_a_host_without_it(mode: str) -> None:
    assert "this host has no " in failure(made(mode, host=BARE), 3)


@pytest.mark.parametrize("mode", CLASSES)
def test_a_file_is_written_and_compared(mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"{mode}.json"
    stale = made(mode, "-o", str(path), "--dry-run")
    assert stale.code == 5
    assert not path.exists()
    assert made(mode, "-o", str(path)).code == 0
    assert path.read_text(encoding="utf-8") == golden(mode)
    same = made(mode, "-o", str(path), "--dry-run")
    assert (same.code, same.out) == (0, "")
    assert "dry run, nothing written: nvidia.com/" in same.err


def test_nothing_is_written_where_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gds.json"
    path.write_text("before", encoding="utf-8")
    assert made("gds", "-o", str(path), host=BARE).code == 3
    assert path.read_text(encoding="utf-8") == "before"


def test_vendor_and_class_are_the_users() -> None:
    found = made("nvswitch", "--vendor", "example.org", "--class", "fabric")
    assert load(found.out).kind == "example.org/fabric"
    assert load(made("imex", "--class", "gpu").out).kind == "nvidia.com/gpu"


def test_an_engine_that_does_not_take_digits() -> None:
    assert "type-index" in failure(made("imex", "--for", "podman@4.1"), 1)
    found = made("imex", "--for", "podman@4.1", "--device-name-strategy", "type-index")
    assert [each.name for each in load(found.out).devices][:2] == ["channel0", "channel1"]


def test_channels_can_be_chosen() -> None:
    words = ("--device-id", "2", "--device-id", "channel0", "--no-all-device")
    assert [each.name for each in load(made("imex", *words).out).devices] == ["0", "2"]
    assert "no device 9" in failure(made("imex", "--device-id", "9"), 2)


@pytest.mark.parametrize("words", [("--explain",), ("--no-all-device",), ("--device-id", "0")])
def test_what_makes_no_sense_is_refused(words: tuple[str, ...]) -> None:
    failure(made("gds", *words), 2)


def test_a_broken_gpu_is_no_matter_here() -> None:
    """Exit code 4 is for a device that was left out of what was written."""
    text = (HGX / "inventory.json").read_text(encoding="utf-8")
    skipped = '\n "unusableDevices": [{"device": "0000:1b:00.0", "reason": "it is lost", "code": "CDG-H102"}],'
    broken = text.replace('\n "driver":', skipped + '\n "driver":')
    assert broken != text
    found = cdi_gen("generate", "--mode", "gds", "--inventory", "-", input=broken.encode())
    assert (found.code, found.out) == (0, golden("gds"))
    assert cdi_gen("generate", "--inventory", "-", input=broken.encode()).code == 4
