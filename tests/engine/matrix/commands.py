# SPDX-License-Identifier: Apache-2.0
"""Commands that ask for GPUs, with what each Docker, Podman and containerd is to make of them.

A command is run by the engine, with a low-level runtime that keeps the container's config.json, and
explained by `cdi-gen why`. The two must agree on the mechanism and on the device nodes.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any, NamedTuple

from tests.engine.expected import nodes as nodes_in
from tests.engine.matrix.cells import MOBY
from tests.engine.matrix.place import Place
from tests.lab.probe import answers, probe

RECORD = "/run/recorded"
SHIM_LOG = f"{RECORD}/shim.log"
RUNTIMES = ("/usr/sbin/runc", "/usr/bin/crun")
SHIM = "/usr/bin/nvidia-container-runtime"
HOOKS = ("nvidia-container-runtime-hook", "cdi-gen-runtime-hook")

_RECORDER = """\
#!/bin/sh
bundle=.
previous=
for word in "$@"; do
    case "$previous" in --bundle|-b) bundle=$word ;; esac
    previous=$word
done
case " $* " in *" create "*|*" run "*) cp "$bundle/config.json" {record}/config.json ;; esac
exec {real} "$@"
"""
_SETTINGS = f"""\
[nvidia-container-runtime]
debug = "{SHIM_LOG}"
"""
_COMPOSE = "/run/commands/{}.yaml"

CDI, SHIMMED, HOOK, NODES, NOTHING = "cdi", "shim", "prestart-hook", "nodes", "none"
REFUSED = "refused"
"""The engine starts no container."""


SUITES = ("bookworm", "trixie", "sid", MOBY)
"""Docker 20.10, 26, 28 and 29; Podman 4.3, 5.4 and 5.8; containerd 1.6, 1.7 and 2.1."""


class Row(NamedTuple):
    """A command, and what becomes of it in each suite."""

    command: str
    expected: tuple[str | None, ...]
    """By suite; None, or nothing for the last suites: it is not run there."""
    compose: str = ""
    """The service of the Compose file that the command is for."""
    quick: bool = False
    """Whether `make test` runs it, with the small roots."""


_DOCKER = "docker run --rm --network none"
_PODMAN = "podman run --rm"
_CTR = "ctr run --rm"
_UP = f"docker-compose --file {_COMPOSE.format('c')} run --rm"


def _docker(options: str, *expected: str | None) -> Row:
    return Row(f"{_DOCKER} {options} IMAGE", expected)


def _podman(options: str, *expected: str | None, quick: bool = False) -> Row:
    return Row(f"{_PODMAN} {options} IMAGE", expected, quick=quick)


def _ctr(options: str, *expected: str | None) -> Row:
    return Row(f"{_CTR} {options} IMAGE:latest NEW_NAME", expected)


def _compose(service: str, *expected: str | None) -> Row:
    return Row(f"{_UP} s", expected, service)


_NONE = (NOTHING,) * 4
_REFUSED = (REFUSED,) * 4
_BY_VERSION = (HOOK, HOOK, HOOK, CDI)

ROWS = (
    _docker("--device nvidia.com/gpu=0", REFUSED, CDI, CDI, CDI),
    _docker("--device=nvidia.com/gpu=all", REFUSED, CDI, CDI, CDI),
    _docker("--device nvidia.com/gpu=99", *_REFUSED),
    _docker("--device nvidia.com/gpu=0 --device nvidia.com/gpu=1", REFUSED, CDI, CDI, CDI),
    _docker("--gpus all", *_BY_VERSION),
    _docker("--gpus=2", *_BY_VERSION),
    _docker("--gpus device=0", *_BY_VERSION),
    _docker("""--gpus '"device=0,2"'""", *_BY_VERSION),
    _docker("--gpus device=0,2", *_REFUSED),
    _docker("""--gpus '"capabilities=compute,utility",device=1'""", *_BY_VERSION),
    _docker("--gpus capabilities=tensor", *_REFUSED),
    _docker("--gpus gpu=0", *_REFUSED),
    _docker("--gpus driver=cdi,device=nvidia.com/gpu=0", REFUSED, CDI, CDI, CDI),
    _docker("--gpus driver=cdi", *_REFUSED),
    _docker("--gpus driver=nvidia,count=1", *_BY_VERSION),
    _docker("--gpus driver=amd", *_REFUSED),
    _docker("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=0", *(SHIMMED,) * 4),
    _docker("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=0,3", *(SHIMMED,) * 4),
    _docker("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=void", *_NONE),
    _docker("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=99", *_REFUSED),
    # The image asks for all GPUs, with all capabilities.
    _docker("--runtime nvidia", *(SHIMMED,) * 4),
    _docker("--runtime nvidia-legacy", *_REFUSED),
    _docker("-e NVIDIA_VISIBLE_DEVICES=0", *_NONE),
    _docker("--device /dev/nvidia0", *(NODES,) * 4),
    _docker("--gpu all", *_REFUSED),
    _podman("--device nvidia.com/gpu=0", CDI, CDI, CDI, quick=True),
    _podman("--device nvidia.com/gpu=all", CDI, CDI, CDI),
    _podman("--device nvidia.com/gpu=99", REFUSED, REFUSED, REFUSED),
    _podman("--gpus all", NOTHING, CDI, CDI, quick=True),
    _podman("--gpus 0", NOTHING, CDI, CDI),
    _podman("--gpus device=0", NOTHING, REFUSED, REFUSED, quick=True),
    _podman("--runtime nvidia", REFUSED, REFUSED, REFUSED),
    _podman(f"--runtime {SHIM} -e NVIDIA_VISIBLE_DEVICES=0", SHIMMED, SHIMMED, SHIMMED),
    _podman("-e NVIDIA_VISIBLE_DEVICES=0", NOTHING, NOTHING, NOTHING, quick=True),
    _podman("--device /dev/nvidia0", NODES, NODES, NODES),
    _ctr("--device nvidia.com/gpu=0", REFUSED, REFUSED, CDI),
    _ctr("--gpus 0", REFUSED, REFUSED, REFUSED),
    _ctr(f"--runc-binary {SHIM} --env NVIDIA_VISIBLE_DEVICES=0", SHIMMED, SHIMMED, SHIMMED),
    _ctr("--env NVIDIA_VISIBLE_DEVICES=0", NOTHING, NOTHING, NOTHING),
    _compose(
        "{deploy: {resources: {reservations: {devices: [{driver: cdi, device_ids: "
        "[nvidia.com/gpu=0], capabilities: [gpu]}]}}}}",
        REFUSED,
        CDI,
        CDI,
        CDI,
    ),
    _compose(
        "{deploy: {resources: {reservations: {devices: [{driver: nvidia, device_ids: ['0'], "
        "capabilities: [gpu]}]}}}}",
        *_BY_VERSION,
    ),
    _compose("{runtime: nvidia, environment: [NVIDIA_VISIBLE_DEVICES=1]}", *(SHIMMED,) * 4),
    _compose("{gpus: all}", None, NOTHING, HOOK, CDI),
    _compose("{devices: [nvidia.com/gpu=0]}", None, REFUSED, CDI, CDI),
)


class Observation(NamedTuple):
    """What an engine did with a command."""

    mechanism: str
    nodes: frozenset[str]
    """The device nodes that the container has because of the command."""
    printed: str


def install(place: Place) -> None:
    """Put the recorder in the place of the low-level runtimes, and give the shim a log."""
    place.must("mkdir", "-p", RECORD)
    place.write("/etc/nvidia-container-runtime/config.toml", _SETTINGS)
    for path in RUNTIMES:
        if place.run("test", "-x", path).returncode == 0:
            real = f"{path}.real"
            place.must("mv", path, real)
            place.machine.inside.write(path, _RECORDER.format(record=RECORD, real=real), mode=0o755)


def words_of(row: Row, place: Place, number: int, image: str) -> list[str]:
    """The command for a place, which has the image."""
    if row.compose:
        service = f"image: localhost/{image}, network_mode: none"
        text = f"version: '3.8'\nservices: {{s: {{{service}, {row.compose[1:]}}}\n"
        place.write(_COMPOSE.format("c"), text)
    words = row.command.replace("IMAGE", f"localhost/{image}").replace("NEW_NAME", f"w{number}")
    return shlex.split(words)


def observe(place: Place, words: list[str], usual: frozenset[str]) -> Observation:
    """Run a command, and see by which mechanism the container got which nodes."""
    place.must("sh", "-c", f"rm -f {RECORD}/*")
    ended = place.run(*words, *probe(("find", "/dev")), timeout=60)
    printed = ended.stdout + ended.stderr
    found = answers("\n".join(line for line in ended.stdout.splitlines() if "\t" in line))
    if ended.returncode != 0 or not found:
        return Observation(REFUSED, frozenset(), printed)
    nodes = frozenset(nodes_in(found)) - usual
    return Observation(_mechanism(place, nodes), nodes, printed)


def _mechanism(place: Place, nodes: frozenset[str]) -> str:
    config: dict[str, Any] = json.loads(place.must("cat", f"{RECORD}/config.json"))
    log: subprocess.CompletedProcess[str] = place.run("cat", SHIM_LOG)
    if "CDI devices" in log.stdout:
        return SHIMMED
    hooks = (config.get("hooks") or {}).get("prestart") or []
    if any(hook["path"].rpartition("/")[2] in HOOKS for hook in hooks):
        return HOOK
    mounts = {mount["destination"] for mount in config["mounts"]}
    if any(path.startswith("/dev/nvidia") for path in nodes):
        return CDI if any("libcuda.so" in path for path in mounts) else NODES
    return NOTHING
