# SPDX-License-Identifier: Apache-2.0
"""The time that a container takes to start with programs that bring their interpreter, beside the
same programs with the node's python3: hook and runtime shim as `setup-node` installs them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from statistics import median
from typing import Any

from tests.bench.contest import ENVIRONMENT, RACE, Lap, Step, plan, ratio, read_laps
from tests.gpu.kubernetes.gpu_node import BUNDLE, CDI_GEN, environment
from tests.gpu.kubernetes.node_set_up import require_bundle
from tests.gpu.kubernetes.page import Lines, block
from tests.gpu.programs.container import CHECKOUT
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.process import SHARED
from tests.lab.kubernetes.standalone import Standalone

ROUNDS = 41
PYTHON, BUNDLED = "python3", "bundle"
INTERPRETERS = {PYTHON: "/nowhere", BUNDLED: BUNDLE}
FOLDER = "/run/starts"
SPEC = "/run/cdi/setup-node.nvidia.com-gpu.json"
SMALL = "a container without a device"


def starts(kubernetes: Standalone) -> Lines:
    """Install both, and race `runc run` of /bin/true; each run has a new root file system."""
    node = kubernetes.node
    require_bundle(node)
    shutil.copytree(node.busybox, node.shared / "starts", symlinks=True)
    for name, bundle in INTERPRETERS.items():
        words = ("kubernetes", "toolkit", "--no-daemon", "--no-runtime-config", "--host-root=/")
        paths = (f"--root={_root(name)}", f"--bundle={bundle}", "--driver-root=/")
        node.run(*CDI_GEN, *words, *paths, "--runtime=containerd", env=environment())
        node.run("/bin/sh", "-ec", f"mkdir -p {FOLDER}; mv {SPEC} {FOLDER}/{name}.json")
    command = (CDI_GEN[0], "-I", "-S", f"/opt/cdi-gen/{RACE.relative_to(CHECKOUT)}")
    answer = node.run(*command, stdin=plan(_runners(node), ROUNDS), timeout=300)
    laps = read_laps(answer.stdout)
    yield f"`runc run` of /bin/true, wall ms, medians of {ROUNDS} interleaved rounds:"
    yield f"{SMALL}: {_median(laps[SMALL]):.1f}"
    for way in ("hook", "shim"):
        bundled, host = laps[f"{way}, {BUNDLED}"], laps[f"{way}, {PYTHON}"]
        yield (
            f"{way}: {_median(bundled):.1f} with the bundle, {_median(host):.1f} with python3, "
            f"ratio {ratio(bundled, host):.3f}"
        )
    rounds = (f"{name}: {' '.join(f'{lap.wall:.1f}' for lap in of)}" for name, of in laps.items())
    yield from block("rounds", "\n".join(rounds))
    for name in INTERPRETERS:
        undo = ("kubernetes", "setup-node", "--undo", f"--root={_root(name)}")
        node.run(*CDI_GEN, *undo, env=environment())


def _root(name: str) -> str:
    return f"/opt/nvidia-{name}"


def _runners(node: Node) -> Mapping[str, list[Step]]:
    """Return the steps of a container without a device, and of both programs of both kinds."""
    plain = _configuration(node)
    runners = {SMALL: _steps(node, "plain", plain, "/usr/sbin/runc", "true")}
    for name in INTERPRETERS:
        spec = f"cp {FOLDER}/{name}.json {SPEC}"
        node.run("/bin/sh", "-ec", spec)
        path = f"{FOLDER}/plain.json"
        device = ("--device=nvidia.com/gpu=all", "--spec-dir=/run/cdi")
        text = node.run(*CDI_GEN, "inject", *device, path, env=environment()).stdout
        runners[f"hook, {name}"] = _steps(
            node, f"hook-{name}", json.loads(text), "/usr/sbin/runc", spec
        )
        asks = json.loads(json.dumps(plain))
        asks["process"]["env"] += ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"]
        shim = f"{_root(name)}/toolkit/nvidia-container-runtime.cdi"
        runners[f"shim, {name}"] = _steps(node, f"shim-{name}", asks, shim, spec)
    return runners


def _configuration(node: Node) -> dict[str, Any]:
    script = f"mkdir -p {FOLDER}; cd {FOLDER}; rm -f config.json; runc spec; cat config.json"
    document: dict[str, Any] = json.loads(node.run("/bin/sh", "-ec", script).stdout)
    document["process"] |= {"terminal": False, "args": ["/bin/true"]}
    document["root"]["readonly"] = False
    return document


def _steps(
    node: Node, name: str, configuration: Mapping[str, Any], program: str, spec: str
) -> list[Step]:
    """Return a run: its root file system and its spec, the run, and whether it had the driver."""
    bundle = f"{FOLDER}/{name}"
    node.inside.write(f"{FOLDER}/{name}.json", json.dumps(configuration))
    prepare = (
        f"{spec}; rm -rf {bundle}; mkdir {bundle}; cp -a {SHARED}/starts {bundle}/rootfs; "
        f"cp {FOLDER}/{name}.json {bundle}/config.json"
    )
    check = "true" if name == "plain" else f"grep -q createContainer {bundle}/config.json"
    run = [program, "run", "--bundle", bundle, f"starts-{name}"]
    return [
        {"argv": ["/bin/sh", "-ec", prepare], "env": ENVIRONMENT, "untimed": True},
        {"argv": run, "env": ENVIRONMENT},
        {"argv": ["/bin/sh", "-ec", check], "env": ENVIRONMENT, "untimed": True},
    ]


def _median(laps: list[Lap]) -> float:
    return median(lap.wall for lap in laps)
