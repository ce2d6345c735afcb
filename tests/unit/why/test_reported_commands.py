# SPDX-License-Identifier: Apache-2.0
"""Commands and Compose files of public bug reports: the cause that the thread found is named.

Each case has the report, what was run, and words of the cause and of what settled it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from cdi_gen.engines.status import EngineStatus
from cdi_gen.why.mechanism import asked_engine
from cdi_runtime.config_toml import configuration
from tests.unit.why.asking import CDI_HOOK, PRESTART_HOOK, ask, codes, engine, requests

SHIMMED = engine("docker", "24.0.7", cdi="no", shim=True)
DOCKER_20 = engine("docker", "20.10.24", cdi="no")
DOCKER_25 = engine("docker", "25.0.6", cdi="off")
DOCKER_27 = engine("docker", "27.1.1")
ROOTLESS = engine("docker", "27.1.1", cdi="off", rootless=True)
PODMAN = engine("podman", "5.5.0")
HOOK = (PRESTART_HOOK,)


class Report(NamedTuple):
    """What a user ran, and what the thread found."""

    name: str
    command: str
    engine: EngineStatus
    programs: tuple[str, ...]
    code: str
    cause: str
    settled: str
    """Words of the fix or of the command that works."""


COMMANDS = (
    Report(
        "imagegenius/docker-immich#349",
        "docker run --runtime=nvidia -e ' NVIDIA_VISIBLE_DEVICES=all' immich",
        SHIMMED,
        (),
        "CDG-Y109",
        "sets ' NVIDIA_VISIBLE_DEVICES', which nothing reads",
        "-e NVIDIA_VISIBLE_DEVICES=all",
    ),
    Report(
        "NixOS/nixpkgs#337873",
        "docker run --rm --runtime=nvidia --gpus all ubuntu nvidia-smi",
        DOCKER_27,
        (),
        "CDG-Y105",
        "has no runtime nvidia",
        "docker run --rm --device nvidia.com/gpu=all ubuntu nvidia-smi",
    ),
    Report(
        "NixOS/nixpkgs#305312",
        "docker run --rm --device nvidia.com/gpu=all ubuntu nvidia-smi -L",
        DOCKER_25,
        (),
        "CDG-Y002",
        "CDI is switched off",
        "cdi-gen engine configure docker && sudo systemctl restart docker",
    ),
    Report(
        "NixOS/nixpkgs#339999",
        "docker run --rm --device=nvidia.com/gpu=all ubuntu:latest nvidia-smi",
        ROOTLESS,
        (),
        "CDG-Y002",
        "CDI is switched off",
        "cdi-gen engine configure docker --rootless && systemctl --user restart docker",
    ),
    Report(
        "NixOS/nixpkgs#353059",
        "docker run --gpus=all ubuntu:latest nvidia-smi -L",
        engine("docker", "27.5.1", shim=True),
        (),
        "CDG-Y104",
        'could not select device driver "" with capabilities: [[gpu]]',
        "docker run --device nvidia.com/gpu=all ubuntu:latest nvidia-smi -L",
    ),
    Report(
        "ublue-os/hwe#78",
        "podman run --runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=all bazzite-arch",
        PODMAN,
        (),
        "CDG-Y105",
        "has no runtime nvidia",
        "podman run --device nvidia.com/gpu=all",
    ),
    Report(
        "radiasoft/sirepo#6560",
        "docker run --gpus radiasoft/sirepo",
        DOCKER_27,
        HOOK,
        "CDG-Y107",
        "--gpus radiasoft/sirepo: ",
        "all, a number",
    ),
    Report(
        "NVIDIA/nvidia-docker#1026",
        "docker run --gpus device=0,1 nvidia/cuda nvidia-smi",
        DOCKER_20,
        HOOK,
        "CDG-Y107",
        "cannot set both Count and DeviceIDs on device request",
        """--gpus '"device=0,1"'""",
    ),
    Report(
        "NVIDIA/nvidia-docker#884",
        "NV_GPU=2 nvidia-docker run --rm -it nvidia/cuda",
        DOCKER_20,
        HOOK,
        "CDG-Y105",
        "has no runtime nvidia",
        "engine configure docker --runtime",
    ),
    Report(
        "blakeblackshear/frigate#9575",
        "docker run -d -e NVIDIA_VISIBLE_DEVICES=all frigate",
        SHIMMED,
        HOOK,
        "CDG-Y108",
        "NVIDIA_VISIBLE_DEVICES=all has no effect",
        "docker run --gpus all -d",
    ),
    Report(
        "NVIDIA/nvidia-container-toolkit#63",
        "podman run --rm --device=nvidia.com/gpu=0 ubuntu:18.04 nvidia-smi -L",
        engine("podman", "3.0.1", cdi="no"),
        (),
        "CDG-E102",
        "podman 3.0.1 does not support CDI (4.1 and later do)",
        "install podman 4.1 or later",
    ),
    Report(
        "NVIDIA/nvidia-docker#1506",
        "docker run --gpus 0 nvidia/cuda nvidia-smi",
        DOCKER_20,
        HOOK,
        "CDG-Y107",
        "a number of GPUs, and not the index of one",
        "--gpus device=0",
    ),
    Report(
        "NVIDIA/nvidia-docker#1506",
        "docker run --gpus 0 nvidia/cuda nvidia-smi",
        engine("docker", "29.1.0"),
        (CDI_HOOK,),
        "CDG-Y107",
        "a number of GPUs, and not the index of one",
        "--gpus device=0",
    ),
)


def reservation(*lines: str, section: str = "reservations") -> str:
    """A Compose file whose service has these lines in a list of devices."""
    listed = "\n".join(f"            {line}" for line in lines)
    return (
        f"services:\n  app:\n    image: x\n    deploy:\n      resources:\n        {section}:\n"
        f"          devices:\n{listed}\n"
    )


FILES = (
    Report(
        "manascb1344/zonos-api#2",
        reservation("- /dev/nvidia0:/dev/nvidia0", section="limits"),
        SHIMMED,
        HOOK,
        "CDG-Y121",
        "deploy.resources.limits.devices: Compose refuses a list of devices there",
        "nodes are named in devices of the service",
    ),
    Report(
        "open-webui/docs#952",
        reservation("- driver: nvidia", "- count: all", "- capabilities: [gpu]"),
        DOCKER_27,
        HOOK,
        "CDG-Y104",
        "the reservation has no capabilities",
        "add capabilities: [gpu]",
    ),
    Report(
        "docker/docs#12315",
        reservation(
            "- driver: nvidia", "  count: 1", "  device_ids: ['0']", "  capabilities: [gpu]"
        ),
        DOCKER_27,
        HOOK,
        "CDG-Y107",
        "cannot set both Count and DeviceIDs on device request",
        "remove count: device_ids names the devices",
    ),
)


@pytest.mark.parametrize("report", COMMANDS, ids=lambda report: str(report.name))
def test_the_cause_of_a_reported_command(report: Report) -> None:
    _is_named(report, report.command)


@pytest.mark.parametrize("report", FILES, ids=lambda report: str(report.name))
def test_the_cause_of_a_reported_compose_file(report: Report, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(report.command)
    _is_named(report, f"docker compose -f {tmp_path}/compose.yaml up")


def _is_named(report: Report, command: str) -> None:
    answer = ask(command, report.engine, *report.programs)
    assert report.code in codes(answer)
    assert report.cause in "\n".join(finding.message for finding in answer.findings)
    advice = [finding.message + "\n" + finding.fix for finding in answer.findings]
    assert report.settled in "\n".join((*advice, answer.working, answer.working_after_fix))


def test_docker_stack_deploy_gives_no_reserved_devices(tmp_path: Path) -> None:
    """docker/cli#3051: Swarm takes none of the reservations that Compose takes."""
    lines = ("- driver: nvidia", "  count: 1", "  capabilities: [gpu, utility]")
    (tmp_path / "compose.yaml").write_text(reservation(*lines))
    answer = ask(f"docker stack deploy --compose-file {tmp_path}/compose.yaml x", DOCKER_27, *HOOK)
    assert codes(answer) == ["CDG-Y111"]


@pytest.mark.parametrize(
    "option", ["--gpus all", "--gpus=all", "--runtime=nvidia", "--device nvidia.com/gpu=all"]
)
def test_an_option_after_the_image_is_the_containers(option: str) -> None:
    answer = ask(f"docker run -d ollama/ollama {option}", DOCKER_27, *HOOK)
    assert codes(answer) == ["CDG-Y121"]
    (finding,) = answer.findings
    assert f"{option} stands after the image ollama/ollama" in finding.message
    assert answer.working.endswith(" -d ollama/ollama")


@pytest.mark.parametrize("words", ["--device cuda", "--device=0", "--gpus-per-node 1"])
def test_an_option_of_the_containers_program_is_none_of_dockers(words: str) -> None:
    (finding,) = ask(f"docker run img train {words}", DOCKER_27, *HOOK).findings
    assert "asks for no GPU" in finding.message


def test_a_program_in_a_container_with_a_gpu_may_have_any_option() -> None:
    assert not codes(ask("docker run --gpus all img train --gpus 2", DOCKER_27, *HOOK))


@pytest.mark.parametrize("variable", ["NVIDIA_VISIBLE_DEVICE", "Nvidia-Visible-Devices"])
def test_a_misspelled_variable_is_named(variable: str) -> None:
    answer = ask(f"docker run --runtime nvidia -e {variable}=all img", SHIMMED)
    assert codes(answer) == ["CDG-Y109"]
    assert f"'{variable}', which nothing reads" in answer.findings[0].message


def test_the_variable_of_cuda_is_no_misspelling() -> None:
    answer = ask("docker run --runtime nvidia -e CUDA_VISIBLE_DEVICES=0 img", SHIMMED)
    assert "CUDA" not in answer.findings[0].message


def test_misspelled_capabilities_are_named() -> None:
    command = "docker run --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all"
    answer = ask(f"{command} -e NVIDIA_DRIVER_CAPABILITES=all img", SHIMMED)
    messages = "\n".join(finding.message for finding in answer.findings)
    assert "the command sets 'NVIDIA_DRIVER_CAPABILITES' instead" in messages


@pytest.mark.parametrize("section", ["resources: {reservations: ", "deploy: {reservations: "])
def test_a_reservation_outside_of_deploy_resources_is_named(section: str, tmp_path: Path) -> None:
    devices = "{devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}"
    (tmp_path / "compose.yaml").write_text(
        f"services:\n  app:\n    image: x\n    {section}{devices}\n"
    )
    answer = ask(f"docker compose -f {tmp_path}/compose.yaml up", DOCKER_27, *HOOK)
    assert codes(answer) == ["CDG-Y121"]
    assert "reservations.devices: Compose refuses" in answer.findings[0].message


@pytest.mark.parametrize("command", ["docker run --gpus all img", "docker compose -f {file} up"])
@pytest.mark.parametrize("how", ["context", "socket"])
def test_docker_desktop_has_no_gpus(command: str, how: str, tmp_path: Path) -> None:
    """open-webui/open-webui#1192, NVIDIA/nvidia-container-toolkit#814 and #83: another context."""
    (tmp_path / "compose.yaml").write_text(
        reservation("- driver: nvidia", "  count: all", "  capabilities: [gpu]")
    )
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    if how == "context":
        (tmp_path / "config.json").write_text(json.dumps({"currentContext": "desktop-linux"}))
    else:
        environment["DOCKER_HOST"] = "unix:///home/user/.docker/desktop/docker.sock"
    line = command.format(file=tmp_path / "compose.yaml")
    (request,) = requests(line, environment)
    chosen, findings = asked_engine.choose(request, [DOCKER_27, ROOTLESS], is_root=False)
    assert chosen is None
    assert [finding.code for finding in findings] == ["CDG-Y117"]
    assert "asks Docker Desktop" in findings[0].message
    assert findings[0].fix.startswith("docker context use default")


@pytest.mark.parametrize("text", ["", "[]", '{"currentContext": 1}', '{"currentContext": ""}'])
def test_a_configuration_without_a_context_means_the_daemon_of_the_host(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(text)
    (request,) = requests("docker run --gpus all img", {"DOCKER_CONFIG": str(tmp_path)})
    assert request.endpoint == ""


def test_root_does_not_ask_by_the_users_context(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "desktop-linux"}))
    (request,) = requests("sudo docker run --gpus all img", {"DOCKER_CONFIG": str(tmp_path)})
    assert request.endpoint == ""


def test_the_script_nvidia_docker_adds_its_options() -> None:
    (request,) = requests("sudo NV_GPU=2 nvidia-docker --log-level warn run -it img nvidia-smi")
    assert (request.engine, request.runtime, request.image) == ("docker", "nvidia", "img")
    assert request.variable("NVIDIA_VISIBLE_DEVICES") == "2"
    assert request.as_root
    (other,) = requests("nvidia-docker create img")
    assert (other.runtime, other.environment) == ("nvidia", ())


SERVICE = "docker service create --generic-resource NVIDIA-GPU=1 nvidia/cuda nvidia-smi"
STACK = """
services:
  app:
    image: x
    deploy: {resources: {reservations: {generic_resources: [
      {discrete_resource_spec: {kind: NVIDIA-GPU, value: 1}}]}}}
"""


@pytest.mark.parametrize("command", [SERVICE, "docker stack deploy -c {file} app"])
def test_gpus_that_swarm_assigns(command: str, tmp_path: Path) -> None:
    """NVIDIA/nvidia-container-toolkit#57: the variable is of another kind than swarm-resource."""
    (tmp_path / "stack.yaml").write_text(STACK)
    line = command.format(file=tmp_path / "stack.yaml")
    default = engine("docker", "24.0.7", cdi="no", shim=True, default="nvidia")
    toml = tmp_path / "config.toml"
    environment = {configuration.OVERRIDE: str(toml)}
    toml.write_text('swarm-resource = "DOCKER_RESOURCE_GPU"\n')
    answer = ask(line, default, environment=environment)
    assert "swarm-resource of config.toml is DOCKER_RESOURCE_GPU" in answer.findings[0].message
    assert "CDG-A241" in codes(answer)
    toml.write_text('swarm-resource = "DOCKER_RESOURCE_NVIDIA-GPU"\n')
    answer = ask(line, default, environment=environment)
    assert (answer.mechanism, codes(answer)) == ("shim", [])
    assert codes(ask(line, SHIMMED)) == ["CDG-Y111"]
