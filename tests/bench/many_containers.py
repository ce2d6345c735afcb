# SPDX-License-Identifier: Apache-2.0
"""Rows ``who`` and ``following``: 200 running containers, looked at once and again and again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tests.bench.contest import ENVIRONMENT, RACE, Lap, Line, Step, exact, plan, read_laps, wall_bar
from tests.bench.installed import CHECKOUT
from tests.bench.root_file_system import layer
from tests.lab.engines import Device, Inside, Lab

SUITE = "trixie-systemd"
"""It has what cdi-gen needs to run."""
COUNT = 200
GPUS = 8
WHO = 500 / 6
"""0.5 s on a machine where an interpreter that does nothing takes 6 ms."""
PASSES = 80
"""Passes of the service in 20 minutes."""
COME_AND_GO = 1000
FOLLOWING_PERCENT = 0.25
"""Half of what the whole service may take of a processor."""
LEFT_KIB = 2048
"""Memory that 900 containers may leave: what the allocator keeps varies by as much."""
INVENTORY = CHECKOUT / "specs/golden/hgx-550-8gpu/inventory.json"
NODES = (
    *(Device(f"/dev/nvidia{n}", 195, n) for n in range(GPUS)),
    Device("/dev/nvidiactl", 195, 255),
)

_INSTALL = """
mkdir -p /opt/cdi-gen /bench/root /bench/bundles
for package in cdi_gen hooks/cdi_base hooks/cdi_hook hooks/cdi_runtime specs/cdi_specs; do
    cp -r /bench/checkout/$package /opt/cdi-gen
done
find /opt/cdi-gen -name __pycache__ -exec rm -rf {} +
python3 -m compileall -q /opt/cdi-gen
tar -xf /bench/layer.tar -C /bench/root
"""
_START = """
for file in /bench/bundles/*/config.json; do
    bundle=${file%/config.json}
    $1 run -d -b $bundle ${bundle##*/} </dev/null >/dev/null 2>&1
done
$1 list -q | wc -l
"""


def who(runs: int) -> Iterator[Line]:
    """The whole process, by the version of control groups and the runtime."""
    for inside, runtime, cgroup in _machines():
        yield _measured(inside, runtime, cgroup, runs)


def following(_runs: int) -> Iterator[Line]:
    """A pass over containers that do not change, and 1,000 that come and go."""
    for inside, runtime, cgroup in _machines():
        yield from _followed(inside, runtime, cgroup)


def _machines() -> Iterator[tuple[Inside, str, str]]:
    """Yield labs with 200 containers, their runtime and their version of control groups."""
    versions: tuple[tuple[Literal["v1", "v2"], str], ...] = (("v1", "runc"), ("v2", "crun"))
    with tempfile.TemporaryDirectory() as folder:
        layer(Path(folder, "layer.tar"))
        binds: dict[str, str | os.PathLike[str]] = {
            "/bench/checkout": CHECKOUT,
            "/bench/inventory.json": INVENTORY,
            "/bench/layer.tar": Path(folder, "layer.tar"),
            "/bench/looks.py": Path(__file__).with_name("looks.py"),
            "/bench/race.py": RACE,
        }
        for cgroup, runtime in versions:
            with Lab(SUITE).enter(binds=binds, devices=NODES, cgroup=cgroup) as inside:
                inside.run(["sh", "-ec", _INSTALL], timeout=300)
                _write_bundles(inside, runtime)
                started = inside.run(["sh", "-ec", _START, "sh", runtime], timeout=600)
                if started.stdout.strip() != str(COUNT):
                    raise RuntimeError(f"{runtime} runs {started.stdout} containers of {COUNT}")
                yield inside, runtime, cgroup


def _followed(inside: Inside, runtime: str, cgroup: str) -> Iterator[Line]:
    request = {
        "runtime": runtime,
        "bundles": [f"/bench/bundles/web-{number}" for number in range(COUNT)],
        "passes": PASSES,
        "come_and_go": COME_AND_GO,
    }
    environment = {**ENVIRONMENT, "PYTHONPATH": "/opt/cdi-gen"}
    command = ["/usr/bin/python3", "-W", "ignore", "/bench/looks.py"]
    ended = inside.run(command, env=environment, stdin=json.dumps(request), timeout=1800)
    result: dict[str, Any] = json.loads(ended.stdout)
    if result["seen"] != COUNT or not result["equal"]:
        raise RuntimeError(f"{result['seen']} containers of {COUNT}; equal: {result['equal']}")
    mean = sum(result["passes"]) / PASSES
    case = f"{COUNT} containers of {runtime}, cgroup {cgroup}"
    yield Line(
        "following",
        case,
        [Lap(0.0, milliseconds, 0.0) for milliseconds in result["passes"]],
        bars=(exact("percent of a processor at 15 s", mean / 150, FOLLOWING_PERCENT),),
        note=f"a fresh look {min(result['fresh']):.0f} ms, young containers {result['young']:.0f} ms",
    )
    history = result["history"]
    if any(entry["after"] for entry in history):
        raise RuntimeError(f"containers that have ended are seen: {history}")
    early, last = history[len(history) // 10], history[-1]
    left = {name: last[name] - early[name] for name in ("descriptors", "kib")}
    yield Line(
        "following",
        f"{COME_AND_GO} of {runtime} come and go",
        [Lap(0.0, 0.0, last["kib"])],
        bars=(
            exact("descriptors left", left["descriptors"], 0),
            exact("KiB left by 900", max(0, left["kib"]), LEFT_KIB),
        ),
        note=f"seen while they ran: {sum(entry['running'] for entry in history)}",
    )


def _measured(inside: Inside, runtime: str, cgroup: str, runs: int) -> Line:
    environment = {**ENVIRONMENT, "PYTHONPATH": "/opt/cdi-gen"}
    python = ["/usr/bin/python3", "-W", "ignore"]
    command = [*python, "-m", "cdi_gen", "who", "--inventory", "/bench/inventory.json"]
    shown = inside.run(command, env=environment).stdout
    if shown.count(f" {runtime} ") != COUNT:
        raise RuntimeError(f"who does not see all containers:\n{shown}")
    runners: dict[str, list[Step]] = {
        "bare": [{"argv": ["/usr/bin/python3", "-I", "-S", "-c", "pass"], "env": ENVIRONMENT}],
        "who": [{"argv": command, "env": environment}],
    }
    race = ["/usr/bin/python3", "-I", "-S", "/bench/race.py"]
    laps = read_laps(inside.run(race, stdin=plan(runners, runs), timeout=600).stdout)
    bar = wall_bar("wall, by the interpreter", laps["who"], laps["bare"], WHO)
    case = f"{COUNT} containers of {runtime}, cgroup {cgroup}"
    return Line("who", case, laps["who"], bars=(bar,))


def _write_bundles(inside: Inside, runtime: str) -> None:
    shown = inside.run(
        ["sh", "-ec", f"cd /tmp; rm -f config.json; {runtime} spec; cat config.json"]
    )
    config: dict[str, Any] = json.loads(shown.stdout)
    config["process"] |= {"terminal": False, "args": ["/bin/sleep", "100000"]}
    config["process"].pop("rlimits", None)
    config["root"] = {"path": "/bench/root", "readonly": True}
    configurations = {}
    for number in range(COUNT):
        numbers = (("nvidiactl", 255), (f"nvidia{number % GPUS}", number % GPUS))
        devices = [
            {"path": f"/dev/{name}", "type": "c", "major": 195, "minor": minor, "fileMode": 0o666}
            for name, minor in numbers
        ]
        rules = [
            {"allow": True, "type": "c", "major": 195, "minor": minor, "access": "rw"}
            for _, minor in numbers
        ]
        linux = config["linux"] | {
            "devices": devices,
            "resources": {"devices": [{"allow": False, "access": "rwm"}, *rules]},
        }
        configurations[f"web-{number}"] = config | {"linux": linux}
    script = """
import json, os, sys
for name, configuration in json.load(sys.stdin).items():
    os.makedirs(f"/bench/bundles/{name}")
    with open(f"/bench/bundles/{name}/config.json", "w") as file:
        json.dump(configuration, file)
"""
    inside.run(["python3", "-c", script], stdin=json.dumps(configurations))
