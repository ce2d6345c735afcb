# SPDX-License-Identifier: Apache-2.0
"""Commands and files that give a container no GPU: each is run by the real engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.matrix.conftest import PlaceOf
from tests.engine.matrix.place import PATIENCE
from tests.pains import engines, pain
from tests.pains.engines import HOME, SEES, finding, gpu_nodes, shell, why
from tests.unit.why.asking import ask, codes, engine

IMAGE = f"localhost/{HOME.image}"
GPU_0 = frozenset({"/dev/nvidia0"})


@pain(
    53,
    "podman run --gpus all: the container starts, and has no GPU",
    command="cdi-gen why podman run --gpus all IMAGE",
    codes=("CDG-Y106",),
)
@pytest.mark.engine
@pytest.mark.host
def test_gpus_of_podman_4_is_ignored(place_of: PlaceOf) -> None:
    place = place_of("bookworm", "v1", HOME)
    engines.prepare(place)
    place.podman(0)
    command = f"podman run --rm --gpus all {IMAGE} {SEES}"
    ended = shell(place, command)
    assert (ended.returncode, gpu_nodes(ended)) == (0, frozenset())

    answer = why(place, command)
    assert "podman 4.3.1 ignores --gpus" in finding(answer, "CDG-Y106")["message"]
    assert answer["works"].startswith("podman run --rm --device nvidia.com/gpu=all")
    assert len(gpu_nodes(shell(place, answer["works"]))) == 8


@pain(
    53,
    'could not select device driver "cdi" with capabilities: []',
    command="cdi-gen why docker run --device nvidia.com/gpu=0 IMAGE",
    codes=("CDG-Y002",),
)
@pytest.mark.engines
def test_docker_with_cdi_switched_off(place_of: PlaceOf) -> None:
    place = place_of("trixie-engines", "v1", HOME)
    engines.prepare(place)
    engines.start_docker(place, {})
    command = f"docker run --rm --network none --device nvidia.com/gpu=0 {IMAGE} {SEES}"
    assert 'could not select device driver "cdi"' in shell(place, command).stderr

    answer = why(place, command)
    fault = finding(answer, "CDG-Y002")
    assert "CDI is switched off in docker 26.1.5" in fault["message"]
    assert "--gpus device=0" in answer["works"]  # the prestart hook is in dockerd's PATH
    assert gpu_nodes(shell(place, answer["works"])) == GPU_0
    assert shell(place, fault["fix"]).returncode == 0
    assert gpu_nodes(shell(place, command)) == GPU_0
    assert why(place, command)["outcome"] == "works"


@pain(
    53,
    'could not select device driver "" with capabilities: [[gpu]]',
    command="cdi-gen why docker run --gpus all IMAGE",
    codes=("CDG-Y104",),
)
@pytest.mark.engines
def test_docker_without_a_program_for_gpus(place_of: PlaceOf) -> None:
    place = place_of("sid-engines", "v1", HOME)
    engines.prepare(place)
    place.must("rm", "/usr/bin/nvidia-container-runtime-hook", "/usr/bin/nvidia-cdi-hook")
    engines.start_docker(place, {})
    command = f"docker run --rm --network none --gpus device=0 {IMAGE} {SEES}"
    says = 'could not select device driver "" with capabilities: [[gpu]]'
    assert says in shell(place, command).stderr

    answer = why(place, command)
    fault = finding(answer, "CDG-Y104")
    assert says in fault["message"]
    assert "nvidia-container-runtime-hook is not in the PATH of dockerd" in fault["message"]
    assert gpu_nodes(shell(place, answer["works"])) == GPU_0
    installed = shell(place, fault["fix"])
    assert installed.returncode == 0, installed
    assert gpu_nodes(shell(place, command)) == GPU_0
    assert why(place, command)["mechanism"] == "prestart-hook"


COMPOSE = """\
version: "3.8"
services:
  gpu:
    image: {}
    network_mode: none
{}
"""
RESERVED = """\
    deploy:
      resources:
        reservations:
          devices:
            - {driver: nvidia, count: all, capabilities: [gpu]}
"""


@pain(
    54,
    "docker compose with Podman: a reservation of devices has no effect",
    command="cdi-gen why docker compose up",
    codes=("CDG-Y110",),
)
@pytest.mark.engines
def test_reservation_of_compose_in_podman(place_of: PlaceOf) -> None:
    """podman#19338: the API takes no device request but those of the driver cdi."""
    place = place_of("trixie-engines", "v1", HOME)
    engines.prepare(place)
    place.podman(0)
    socket = "unix:///run/podman/podman.sock"
    place.must("mkdir", "-p", "/run/podman")
    serve = f"podman system service --time 0 {socket} >/var/log/api.log 2>&1 </dev/null &"
    place.must("sh", "-c", serve)
    place.must("sh", "-c", PATIENCE.format("test -S /run/podman/podman.sock"))
    path = place.write("/run/compose/compose.yaml", COMPOSE.format(IMAGE, RESERVED))
    command = f"docker-compose --file {path} run --rm gpu {SEES}"
    asking = f"DOCKER_HOST={socket} {command}"
    ended = shell(place, asking)
    assert (ended.returncode, gpu_nodes(ended)) == (0, frozenset()), ended

    answer = why(place, asking)
    assert answer["engine"] == "podman"
    fault = finding(answer, "CDG-Y110")
    assert "ignores a device request with driver 'nvidia'" in fault["message"]
    advice = "\n".join(f"    {line}" for line in answer["works"].splitlines())
    place.write(path, COMPOSE.format(IMAGE, advice))
    assert len(gpu_nodes(shell(place, asking))) == 8


SERVICE = """
services:
  gpu:
    image: cuda
    deploy: {resources: {reservations: {devices: [{driver: cdi, device_ids: [nvidia.com/gpu=0]}]}}}
"""


@pain(
    55,
    "docker stack deploy: the service has no GPU",
    command="cdi-gen why docker stack deploy -c compose.yaml NAME",
    codes=("CDG-Y111",),
    simulated=True,
)
def test_swarm_ignores_devices(tmp_path: Path) -> None:
    """A swarm needs a network that this machine does not give its labs."""
    path = tmp_path / "compose.yaml"
    path.write_text(SERVICE)
    command = f"docker stack deploy -c {path} name"
    answer = ask(command, engine("docker", "29.1.0"), "nvidia-cdi-hook")
    (fault,) = answer.findings
    assert fault.code == "CDG-Y111"
    assert "Swarm ignores" in fault.message
    assert "--runtime --set-as-default" in fault.fix

    # The node after the printed command, and the variable.
    path.write_text("services: {gpu: {image: cuda, environment: [NVIDIA_VISIBLE_DEVICES=0]}}")
    shimmed = engine("docker", "29.1.0", shim=True, default="nvidia")
    answer = ask(command, shimmed)
    assert (answer.mechanism, answer.words, codes(answer)) == ("shim", ("0",), [])


@pain(
    56,
    "Error: creating build executor: getting info of source device nvidia.com/gpu=all: stat "
    "nvidia.com/gpu=all: no such file or directory",
    command="cdi-gen why podman build --device nvidia.com/gpu=all .",
    codes=("CDG-E102",),
)
@pytest.mark.engine
@pytest.mark.host
def test_build_of_an_older_podman(place_of: PlaceOf) -> None:
    """buildah 1.28 in Podman 4.3; the newer Podman that is advised builds with the device."""
    old = place_of("bookworm", "v1", HOME)
    engines.prepare(old)
    old.podman(0)
    context = _context(old.write, f"RUN {json.dumps(SEES.split())}")
    command = f"podman build --no-cache --network none --device nvidia.com/gpu=0 {context}"
    assert "nvidia.com/gpu=0: no such file" in shell(old, command).stderr

    fault = finding(why(old, command), "CDG-E102")
    assert "builds without CDI" in fault["message"]
    assert fault["fix"].startswith("install podman 5.4 or later")

    new = place_of("trixie", "v2", HOME)
    engines.prepare(new)
    new.podman(0)
    _context(new.write, f"RUN {json.dumps(SEES.split())}")
    assert why(new, command)["outcome"] == "works"
    assert gpu_nodes(shell(new, command)) == GPU_0


@pain(
    56,
    "ERROR: failed to solve: device nvidia.com/gpu=0 is requested by the build but not allowed",
    command="cdi-gen why docker build .",
    codes=("CDG-Y112",),
)
@pytest.mark.engines
def test_build_of_docker_without_the_entitlement(place_of: PlaceOf) -> None:
    place = place_of("moby-engines", "v1", HOME)
    engines.prepare(place)
    engines.start_docker(place, {})
    context = _context(
        place.write,
        f"RUN --network=none --device=nvidia.com/gpu=0 {json.dumps(SEES.split())}",
    )
    command = f"docker build --progress=plain --no-cache {context}"
    refused = shell(place, command)
    assert refused.returncode != 0
    assert "not allowed" in refused.stderr, refused.stderr

    answer = why(place, command)
    assert "does not allow it" in finding(answer, "CDG-Y112")["message"]
    assert "--allow device=nvidia.com/gpu=0" in answer["works"]
    built = shell(place, answer["works"])
    assert built.returncode == 0, built.stderr
    assert "/dev/nvidia0\t" in built.stderr


def _context(write: Callable[[str, object], str], step: str) -> str:
    """A directory to build an image from."""
    path = write("/run/context/Dockerfile", f"FROM {IMAGE}\n{step}\n")
    return path.rpartition("/")[0]
