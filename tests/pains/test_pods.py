# SPDX-License-Identifier: Apache-2.0
"""Pods whose runtime class does not fit what the device plugin answers, by NVIDIA's own runtime."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from cdi_runtime.config_toml import configuration
from tests.pains import pain
from tests.unit.why.asking import ask, codes, engine

UUID = "GPU-6e89c0de-0000-4000-8000-000000000001"
MANAGEMENT, GPU = "management.nvidia.com/gpu", "nvidia.com/gpu"
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: train}
spec:
  runtimeClassName: nvidia
  containers:
    - {name: train, image: cuda, resources: {limits: {nvidia.com/gpu: 1}}}
"""
SETTINGS = """\
[nvidia-container-runtime]
mode = "cdi"
runtimes = ["{0}/runc"]
[nvidia-container-runtime.modes.cdi]
spec-dirs = ["{0}/cdi"]
default-kind = "management.nvidia.com/gpu"
"""


def node(folder: Path) -> Path:
    """The files of a node: a spec of each kind, a low-level runtime, config.toml of the operator."""
    (folder / "cdi").mkdir()
    for kind, name in ((MANAGEMENT, "all"), (GPU, UUID)):
        device = {"name": name, "containerEdits": {"env": [f"INJECTED={kind}={name}"]}}
        spec = {"cdiVersion": "0.5.0", "kind": kind, "devices": [device]}
        (folder / "cdi" / f"{kind.partition('/')[0]}.json").write_text(json.dumps(spec))
    (folder / "runc").write_text("#!/bin/sh\nexit 0\n")
    (folder / "runc").chmod(0o755)
    settings = folder / "config.toml"
    settings.write_text(SETTINGS.format(folder))
    return settings


def create(runtime: Path, folder: Path, settings: Path) -> tuple[str, list[str]]:
    """What the runtime prints for the pod's container, and the variables that it injects.

    The device plugin, with the strategy envvar, has answered with the UUID of the pod's GPU.
    """
    process = {"user": {"uid": 0, "gid": 0}, "args": ["x"], "cwd": "/"}
    config = {"process": {**process, "env": [f"NVIDIA_VISIBLE_DEVICES={UUID}"]}}
    bundle = folder / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_text(json.dumps({**config, "root": {"path": "r"}}))
    ended = subprocess.run(
        [runtime, "create", "--bundle", bundle, "x"],
        env={"PATH": "/usr/bin:/bin", configuration.OVERRIDE: str(settings)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    env = json.loads((bundle / "config.json").read_text())["process"]["env"]
    return ended.stderr, [entry for entry in env if entry.startswith("INJECTED=")]


@pain(
    17,
    f"unresolvable CDI devices {MANAGEMENT}=GPU-…",
    command="cdi-gen why pod.yaml",
    codes=("CDG-Y115",),
    simulated=True,
)
def test_runtime_class_looks_in_the_kind_of_the_operator(
    tmp_path: Path, nvidia_program: Callable[[str], Path]
) -> None:
    runtime = nvidia_program("nvidia-container-runtime")
    settings = node(tmp_path)
    printed, injected = create(runtime, tmp_path, settings)
    assert f"unresolvable CDI devices {MANAGEMENT}={UUID}" in printed
    assert injected == []

    pod = tmp_path / "pod.yaml"
    pod.write_text(POD)
    containerd = engine("containerd", "2.1.9")
    node_of_nvidia = containerd._replace(runtimes=(("nvidia", str(runtime)),))
    environment = {configuration.OVERRIDE: str(settings)}
    answer = ask(str(pod), node_of_nvidia, environment=environment)
    (fault,) = (item for item in answer.findings if item.severity == "error")
    assert fault.code == "CDG-Y115"
    assert "runtimeClassName: nvidia" in fault.message
    assert f"unresolvable CDI devices {MANAGEMENT}=GPU-" in fault.message

    # The first advice: without the class the engine takes the CDI devices of the device plugin.
    assert fault.fix.startswith("remove runtimeClassName from the pod")
    pod.write_text(POD.replace("  runtimeClassName: nvidia\n", ""))
    assert codes(ask(str(pod), node_of_nvidia, environment=environment)) == []

    # The other advice: another default kind.
    line = re.search(r'default-kind = "[^"]*"', fault.fix)
    assert line is not None
    assert str(settings) in fault.fix
    settings.write_text(re.sub(r"default-kind = .*", line[0], settings.read_text()))
    printed, injected = create(runtime, tmp_path, settings)
    assert (printed, injected) == ("", [f"INJECTED={GPU}={UUID}"])
    pod.write_text(POD)
    assert codes(ask(str(pod), node_of_nvidia, environment=environment)) == []
