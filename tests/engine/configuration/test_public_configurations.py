# SPDX-License-Identifier: Apache-2.0
"""Configurations as people have them, read by the engines' own programs before and after a change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import ENVIRONMENT, cdi_gen
from tests.unit.engines.public_files import CONTAINERD, DAEMON_JSON, SHIM, V2, V3

from .programs import LOW_LEVEL, dump

pytestmark = pytest.mark.engine

SUITES = {"bookworm": {1, 2}, "trixie": {1, 2}, "sid": {1, 2, 3}, "2.3": {1, 2, 3}}
"""Where a containerd comes from, and the versions of configuration files that it reads."""


@pytest.mark.parametrize("kind", DAEMON_JSON)
@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_docker(program: Callable[[str, str], Path], suite: str, kind: str, tmp_path: Path) -> None:
    dockerd = program(suite, "dockerd")
    path = tmp_path / "daemon.json"
    text = DAEMON_JSON[kind].replace("/usr/local/bin/crun", LOW_LEVEL)
    path.write_text(text)
    options = ("--config", str(path))
    env = {"PATH": f"{dockerd.parent}:{ENVIRONMENT['PATH']}"}
    done = cdi_gen("engine", "configure", "docker", *options, "--set-as-default", env=env)
    assert done.code == 0, done
    checked = subprocess.run(
        [dockerd, "--validate", "--userland-proxy=false", "--config-file", path],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert "configuration OK" in checked.stderr, checked
    said, was = json.loads(path.read_text()), json.loads(text)
    assert said["default-runtime"] == "nvidia"
    assert {**said["runtimes"], "nvidia": 0} == {**was["runtimes"], "nvidia": 0}
    ours = ("default-runtime", "runtimes", "features")
    assert {key: said[key] for key in was if key not in ours} == {
        key: was[key] for key in was if key not in ours
    }
    assert cdi_gen("engine", "unconfigure", "docker", *options, env=env).code == 0
    assert path.read_text() == text


def cri(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said["plugins"][V3 if V3 in said["plugins"] else V2]
    return found


@pytest.mark.parametrize(
    ("suite", "kind"),
    [
        (suite, kind)
        for suite, versions in SUITES.items()
        for kind, text in CONTAINERD.items()
        if "version = 3" not in text or 3 in versions
    ],
)
def test_containerd(
    program: Callable[[str, str], Path], suite: str, kind: str, tmp_path: Path
) -> None:
    """The runtime is the shim afterwards; the rest of the configuration is unchanged."""
    text = CONTAINERD[kind]
    binary = program(suite, "containerd")
    path = tmp_path / "config.toml"
    text = text.replace("CONF.D", f"{tmp_path}/conf.d").replace("CONFIG", str(path))
    text = text.replace("/usr/local/bin/runc", LOW_LEVEL)
    path.write_text(text)
    before = dump(binary, path)
    env = {"PATH": f"{binary.parent}:{ENVIRONMENT['PATH']}"}
    options = ("--config", str(path), "--executable-path", str(binary))
    dry = cdi_gen("engine", "configure", "containerd", *options, "--runtime", "--dry-run", env=env)
    assert dry.code in {0, 5}, dry
    done = cdi_gen("engine", "configure", "containerd", *options, "--runtime", env=env)
    assert done.code == 0, done
    assert "Traceback" not in done.err
    now = dump(binary, path)
    runtimes = cri(now)["containerd"]["runtimes"]
    said = runtimes.pop("nvidia")["options"]
    programs = {value for key, value in said.items() if key.lower() == "binaryname"}
    assert programs == {SHIM}
    assert {value for key, value in said.items() if key.lower() == "systemdcgroup"} <= {True}
    was = {**cri(before)["containerd"]["runtimes"]}
    was.pop("nvidia", None)
    assert {name: runtimes[name] for name in was} == was
    assert cri(now)["containerd"].get("default_runtime_name") == cri(before)["containerd"].get(
        "default_runtime_name"
    )
    again = cdi_gen("engine", "configure", "containerd", *options, "--runtime", env=env)
    assert "nothing to change" in again.err
    assert cdi_gen("engine", "unconfigure", "containerd", *options[:2], env=env).code == 0
    assert path.read_text() == text
    assert dump(binary, path) == before


@pytest.mark.parametrize("suite", SUITES)
def test_the_default_configuration_of_each(
    program: Callable[[str, str], Path], suite: str, tmp_path: Path
) -> None:
    """`containerd config default > config.toml`, as every guide to kubeadm has it."""
    binary = program(suite, "containerd")
    path = tmp_path / "config.toml"
    done = subprocess.run([binary, "config", "default"], capture_output=True, text=True, check=True)
    path.write_text(done.stdout)
    options = ("--config", str(path), "--executable-path", str(binary))
    made = cdi_gen("engine", "configure", "containerd", *options, "--set-as-default")
    assert made.code == 0, made
    assert "default_runtime, which" not in made.err, "that table has no type"
    now = cri(dump(binary, path))
    assert now["containerd"]["default_runtime_name"] == "nvidia"
    assert now["containerd"]["runtimes"]["nvidia"]["options"]["BinaryName"] == SHIM
    if suite != "bookworm":
        assert now["enable_cdi"] is True
    assert cdi_gen("engine", "unconfigure", "containerd", *options[:2]).code == 0
    assert path.read_text() == done.stdout
