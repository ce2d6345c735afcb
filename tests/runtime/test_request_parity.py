# SPDX-License-Identifier: Apache-2.0
"""The same requests to `nvidia-container-runtime` in mode cdi: the same devices, or why not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_runtime import request
from cdi_runtime.config_toml import configuration
from tests.runtime.requests import DIRECTORY, PRIVILEGED, UNPRIVILEGED, V, config_of

DEVICES = {"nvidia.com/gpu": ("0", "1", "all", "none", "0:1", "void"), "vendor.com/nic": ("y",)}
ERROR = ["error"]
MARK = "INJECTED_"


@pytest.fixture(scope="module")
def nvidia_runtime(nvidia_program: Callable[[str], Path]) -> str:
    return str(nvidia_program("nvidia-container-runtime"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Specs whose devices add a marked variable to the environment, and a runtime without effect."""
    folder = tmp_path_factory.mktemp("parity")
    (folder / "cdi").mkdir()
    for number, (kind, names) in enumerate(DEVICES.items()):
        devices = [
            {"name": name, "containerEdits": {"env": [f"{MARK}{number}_{place}={kind}={name}"]}}
            for place, name in enumerate(names)
        ]
        spec = {"cdiVersion": "0.5.0", "kind": kind, "devices": devices}
        (folder / "cdi" / f"{number}.json").write_text(json.dumps(spec))
    (folder / "runc").write_text("#!/bin/sh\nexit 0\n")
    (folder / "runc").chmod(0o755)
    return folder


def devices_by_nvidia(place: Path, program: str, config: dict[str, Any]) -> list[str]:
    config["process"] |= {"user": {"uid": 0, "gid": 0}, "args": ["x"], "cwd": "/"}
    bundle = place / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(config | {"root": {"path": "r"}}))
    ended = subprocess.run(
        [program, "create", "--bundle", bundle, "x"],
        env={"PATH": "/usr/bin:/bin", configuration.OVERRIDE: str(place / "config.toml")},
        capture_output=True,
        check=False,
        timeout=20,
    )
    if ended.returncode != 0:
        return ERROR
    env = json.loads((bundle / "config.json").read_text())["process"]["env"]
    return sorted(entry.partition("=")[2] for entry in env if entry.startswith(MARK))


def devices_by_cdi_gen(place: Path, config: dict[str, Any]) -> list[str]:
    settings = configuration.load(str(place / "config.toml"))
    try:
        asked = request.read(config, settings, annotations=True).devices
    except request.RequestError:
        return ERROR
    names = {name if "=" in name else f"nvidia.com/gpu={name}" for name in asked}
    existing = {f"{kind}={name}" for kind, devices in DEVICES.items() for name in devices}
    return sorted(names) if names <= existing else ERROR


GPU = "nvidia.com/gpu="
NIC = "vendor.com/nic=y"

EQUAL: list[tuple[dict[str, Any], str]] = [
    *(
        ({"env": {V: value}}, "")
        for value in (
            "0", "1,0", " 0 , 1", "all", "0,all", "none", "0,none", "none,0", "void", "0,void", "",
            ",", "0:1", "foo", f"{GPU}0", f"{GPU}0,0", f"{GPU}9", DIRECTORY,
        )
    ),
    ({"env": {"CUDA_VERSION": "8.0"}}, ""),
    ({"env": {"CUDA_VERSION": "8.0", "NVIDIA_REQUIRE_CUDA": "cuda>=8"}}, ""),
    *(
        ({"mounts": [DIRECTORY + name]}, "accept-nvidia-visible-devices-as-volume-mounts = true")
        for name in ("/0", "/all", "/void", "/cdi/vendor.com/nic/y", "/cdi/vendor.com/nic=y", "/0/1", "/imex/0")
    ),
    (
        {"mounts": [f"{DIRECTORY}/void", f"{DIRECTORY}/0"]},
        "accept-nvidia-visible-devices-as-volume-mounts = true",
    ),
    ({"mounts": [f"{DIRECTORY}/0"], "env": {V: "1"}}, ""),
    ({"annotations": {"cdi.k8s.io/a": NIC}, "env": {V: "1"}}, ""),
    ({"annotations": {"cdi.k8s.io/a": f"{NIC},{GPU}0"}}, ""),
    ({"annotations": {"cdi.k8s.io/a": "0"}}, ""),
    ({"annotations": {"other/a": NIC}, "env": {V: "1"}}, ""),
    ({"env": [f"{V}=all", f"{V}=1"]}, ""),
    ({"env": [f"{V}=0", f"{V}=void"]}, ""),
    ({"env": ["A=0", "A=1"]}, 'swarm-resource = "A"'),
    ({"env": {"A": "0", "B": "1", V: "all"}}, 'swarm-resource = "A,B"'),
    ({"env": {"A": "", V: "all"}}, 'swarm-resource = "A,B"'),
    ({"env": {"A": " 0", V: "all"}}, 'swarm-resource = " A ,B"'),
    *(
        ({"env": {name: "0"}, "capabilities": capabilities},
         'swarm-resource = "A"\naccept-nvidia-visible-devices-envvar-when-unprivileged = false')
        for name in (V, "A")
        for capabilities in (None, PRIVILEGED, UNPRIVILEGED)
    ),
]  # fmt: skip

DIFFERENT: list[tuple[dict[str, Any], str, list[str], list[str], str]] = [
    ({"env": {V: "0,0"}}, "", [f"{GPU}0", f"{GPU}none"], [f"{GPU}0"], "an empty word is `none`"),
    ({"env": {V: "ALL"}}, "", ERROR, [f"{GPU}all"], "libnvidia-container takes it"),
    ({"env": {V: NIC}}, "", [NIC], ERROR, "an image asks for another vendor's device"),
    ({"annotations": {"cdi.k8s.io/a": f"{NIC},"}}, "", [f"{GPU}none", NIC], [NIC], "an empty word"),
    ({"annotations": {"cdi.k8s.io/a": ""}, "env": {V: "1"}}, "", [f"{GPU}none"], [f"{GPU}1"], "no word"),
    ({"annotations": {"cdi.k8s.io/a": f"{NIC}, {GPU}0"}}, "", ERROR, [f"{GPU}0", NIC], "a blank"),
    (
        {"mounts": [f"{DIRECTORY}-of-mine/0"]},
        "accept-nvidia-visible-devices-as-volume-mounts = true",
        ERROR, [], "the path is cut in mid-component",
    ),
    (
        {"mounts": [f"{DIRECTORY}/cdi/foo"]},
        "accept-nvidia-visible-devices-as-volume-mounts = true",
        [], ERROR, "what cannot be read is passed over",
    ),
]  # fmt: skip


def both(
    place: Path, program: str, asked: dict[str, Any], settings: str
) -> tuple[list[str], list[str]]:
    (place / "config.toml").write_text(
        f'{settings}\n[nvidia-container-runtime]\nmode = "cdi"\nruntimes = ["{place}/runc"]\n'
        f'modes.cdi.spec-dirs = ["{place}/cdi"]\n'
    )
    config = config_of(**asked)
    return devices_by_nvidia(place, program, config), devices_by_cdi_gen(place, config_of(**asked))


@pytest.mark.parametrize(("asked", "settings"), EQUAL)
def test_request_is_read_as_by_nvidias_runtime(
    place: Path, nvidia_runtime: str, asked: dict[str, Any], settings: str
) -> None:
    theirs, ours = both(place, nvidia_runtime, asked, settings)
    assert ours == theirs


@pytest.mark.parametrize(("asked", "settings", "theirs", "ours", "why"), DIFFERENT)
def test_documented_difference_from_nvidias_runtime(
    place: Path,
    nvidia_runtime: str,
    asked: dict[str, Any],
    settings: str,
    theirs: list[str],
    ours: list[str],
    why: str,
) -> None:
    assert why
    assert both(place, nvidia_runtime, asked, settings) == (theirs, ours)
