# SPDX-License-Identifier: Apache-2.0
"""Which mechanism an engine takes, what is wrong, and the command that works instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdi_base.findings import Finding
from cdi_gen.engines.status import EngineStatus
from tests.unit.why.asking import CDI_HOOK, PRESTART_HOOK, ask, codes, engine

OFF = engine("docker", "26.1.5", cdi="off")
OLD = engine("docker", "20.10.24", cdi="no")
NEW = engine("docker", "29.1.0")
SHIMMED = engine("docker", "28.5.2", shim=True)
DOCKER = engine("docker", "28.5.2")
GPUS, DEVICE = "docker run --gpus all img", "docker run --device nvidia.com/gpu=all img"


@pytest.mark.parametrize(
    ("command", "status", "programs", "expected"),
    [
        (DEVICE, DOCKER, (), "cdi"),
        (DEVICE, OFF, (), "none"),
        (DEVICE, OLD, (), "none"),
        (GPUS, DOCKER, (PRESTART_HOOK,), "prestart-hook"),
        (GPUS, DOCKER, (CDI_HOOK,), "none"),
        (GPUS, OLD, (PRESTART_HOOK,), "prestart-hook"),
        (GPUS, NEW, (CDI_HOOK,), "cdi"),
        (GPUS, NEW, (CDI_HOOK, PRESTART_HOOK), "cdi"),
        (GPUS, NEW, (PRESTART_HOOK,), "prestart-hook"),
        (GPUS, engine("docker", "29.1", cdi="off"), (CDI_HOOK, PRESTART_HOOK), "prestart-hook"),
        (GPUS, engine("docker", "29.1", cdi="off"), (CDI_HOOK,), "none"),
        ("docker run --gpus driver=cdi,device=nvidia.com/gpu=0 img", DOCKER, (), "cdi"),
        ("docker run --gpus driver=cdi img", DOCKER, (), "none"),
        ("docker run --gpus driver=amd img", NEW, (CDI_HOOK,), "none"),
        ("docker run --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=0 img", SHIMMED, (), "shim"),
        ("docker run --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=0 img", DOCKER, (), "none"),
        ("docker run -e NVIDIA_VISIBLE_DEVICES=0 img", SHIMMED, (), "none"),
        ("docker run --device /dev/nvidia0 img", DOCKER, (), "nodes"),
        ("podman run --device nvidia.com/gpu=0 img", engine("podman", "4.3.1"), (), "cdi"),
        ("podman run --gpus all img", engine("podman", "4.9.4"), (), "none"),
        ("podman run --gpus all img", engine("podman", "5.0.0"), (), "cdi"),
        ("podman build --device nvidia.com/gpu=0 .", engine("podman", "5.4.2"), (), "cdi"),
        ("podman build --device nvidia.com/gpu=0 .", engine("podman", "5.3.0"), (), "none"),
        ("buildah build --device nvidia.com/gpu=0 .", engine("buildah", "1.39.0"), (), "cdi"),
        ("ctr run --device nvidia.com/gpu=0 i c", engine("containerd", "1.7.24"), (), "none"),
        ("ctr run --device nvidia.com/gpu=0 i c", engine("containerd", "2.0.0"), (), "cdi"),
        ("ctr run --gpus 0 i c", engine("containerd", "2.2.0"), (), "container-cli"),
        ("ctr run --gpus 0 i c", engine("containerd", "2.3.0"), (), "cdi"),
        ("nerdctl run --gpus all img", engine("nerdctl", "2.2.0"), (), "container-cli"),
        ("nerdctl run --gpus all img", engine("nerdctl", "2.3.0"), (), "cdi"),
        ("nerdctl run --device nvidia.com/gpu=0 img", engine("nerdctl", "2.1.0"), (), "cdi"),
    ],
)
def test_mechanism(
    command: str, status: EngineStatus, programs: tuple[str, ...], expected: str
) -> None:
    assert ask(command, status, *programs).mechanism == expected


@pytest.mark.parametrize(
    ("command", "status", "programs", "code"),
    [
        (GPUS, DOCKER, (), "CDG-Y104"),
        (DEVICE, OFF, (), "CDG-Y002"),
        (DEVICE, OLD, (), "CDG-E102"),
        ("docker run --gpus device=0,2 img", DOCKER, (PRESTART_HOOK,), "CDG-Y107"),
        ("docker run --gpus capabilities=tensor img", DOCKER, (PRESTART_HOOK,), "CDG-Y104"),
        ("docker run --gpus driver=cdi,device=0 img", DOCKER, (), "CDG-Y107"),
        ("docker run --runtime nvidia img", DOCKER, (), "CDG-Y105"),
        ("docker run -e NVIDIA_VISIBLE_DEVICES=all img", DOCKER, (), "CDG-Y108"),
        ("docker run --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=void i", SHIMMED, (), "CDG-Y109"),
        ("docker run --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=none i", SHIMMED, (), "CDG-Y109"),
        ("docker run --runtime nvidia img", SHIMMED, (), "CDG-Y109"),
        ("docker run --device /dev/nvidia0 img", DOCKER, (), "CDG-Y114"),
        ("docker run --privileged img", DOCKER, (), "CDG-Y114"),
        ("docker run img", DOCKER, (), "CDG-Y121"),
        ("podman run --gpus all img", engine("podman", "4.3.1"), (), "CDG-Y106"),
        ("podman run --gpus device=0 img", engine("podman", "5.4.2"), (), "CDG-Y107"),
        ("podman run --runtime nvidia img", engine("podman", "5.4.2"), (), "CDG-Y105"),
        ("podman build --device nvidia.com/gpu=0 .", engine("podman", "4.3.1"), (), "CDG-E102"),
        (
            "podman build --isolation chroot --device nvidia.com/gpu=0 .",
            engine("podman", "5.4.2"),
            (),
            "CDG-Y112",
        ),
        ("ctr run --gpus 0 i c", engine("containerd", "2.1.9"), (), "CDG-Y104"),
        ("DOCKER_HOST=ssh://x docker run --gpus all img", DOCKER, (), "CDG-Y117"),
        (GPUS, engine("podman", "5.4.2"), (), "CDG-Y120"),
        # Docker 20.10 lists no --annotation, Podman's create before 5 no --gpus.
        ("docker run --annotation a=b --gpus all img", OLD, (PRESTART_HOOK,), "CDG-Y101"),
        ("podman create --gpus all img", engine("podman", "4.3.1"), (), "CDG-Y101"),
        ("docker service create img", DOCKER, (), "CDG-Y121"),
    ],
)
def test_what_is_wrong(
    command: str, status: EngineStatus, programs: tuple[str, ...], code: str
) -> None:
    assert code in codes(ask(command, status, *programs))


@pytest.mark.parametrize(
    ("command", "status", "programs", "working"),
    [
        (GPUS, DOCKER, (), DEVICE),
        ("docker run --rm --gpus=2 img", DOCKER, (), None),
        (
            "sudo docker run --rm --runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=0 img",
            DOCKER,
            (),
            "sudo docker run --rm --device nvidia.com/gpu=0 -e NVIDIA_VISIBLE_DEVICES=0 img",
        ),
        (DEVICE, OLD, (PRESTART_HOOK,), GPUS),
        ("podman run --gpus all img", engine("podman", "4.3.1"), (), None),
        (
            "podman run -it --gpus device=GPU-12 img",
            engine("podman", "5.4.2"),
            (),
            "podman run -it --device nvidia.com/gpu=GPU-12 img",
        ),
    ],
)
def test_command_that_works_here(
    command: str, status: EngineStatus, programs: tuple[str, ...], working: str | None
) -> None:
    answer = ask(command, status, *programs)
    if working is None:
        devices = [f"nvidia.com/gpu={name}" for name in ("0", "1")]
        words = " ".join(f"--device {name}" for name in devices)
        expected = {
            "docker": f"docker run --rm {words} img",
            "podman": "podman run --device nvidia.com/gpu=all img",
        }
        working = expected[status.engine]
    assert answer.working == working


def test_command_that_works_once_the_engine_is_configured() -> None:
    answer = ask(DEVICE, OFF)
    assert (answer.working, answer.working_after_fix) == ("", DEVICE)
    assert answer.findings[0].fix == (
        "sudo cdi-gen engine configure docker && sudo systemctl restart docker"
    )


def test_command_that_is_right_has_no_other() -> None:
    answer = ask(DEVICE, DOCKER)
    assert (answer.working, answer.working_after_fix, codes(answer)) == ("", "", [])


def test_hook_of_docker_gets_devices_and_capabilities() -> None:
    command = 'docker run --gpus \'"device=0,2","capabilities=graphics,utility"\' img'
    answer = ask(command, DOCKER, PRESTART_HOOK)
    assert answer.words == ("0", "2")


def compose(folder: Path, service: str) -> str:
    path = folder / "compose.yaml"
    path.write_text(f"services: {{s: {service}}}")
    return str(path)


PODMAN_API = "DOCKER_HOST=unix:///run/podman/podman.sock docker-compose"
NVIDIA = "{deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}}"
RESERVED = "{deploy: {resources: {reservations: {devices: [{driver: cdi, device_ids: [nvidia.com/gpu=0]}]}}}}"


@pytest.mark.parametrize(
    ("service", "status", "program", "mechanism", "code"),
    [
        (RESERVED, DOCKER, "docker compose", "cdi", None),
        (RESERVED, OFF, "docker compose", "none", "CDG-Y002"),
        (RESERVED, engine("podman", "5.3.0"), PODMAN_API, "none", "CDG-Y110"),
        (RESERVED, engine("podman", "5.4.0"), PODMAN_API, "cdi", None),
        (RESERVED, engine("podman", "5.4.0"), "podman-compose", "none", "CDG-Y110"),
        (NVIDIA, engine("podman", "4.3.0"), "podman-compose", "cdi", None),
        (NVIDIA, engine("podman", "5.8.0"), PODMAN_API, "none", "CDG-Y110"),
        ("{gpus: all}", engine("podman", "5.4.0"), PODMAN_API, "none", "CDG-Y110"),
        ("{devices: [nvidia.com/gpu=0]}", engine("podman", "5.0"), "podman-compose", "cdi", None),
        ("{devices: [nvidia.com/gpu=0]}", engine("podman", "5.0"), PODMAN_API, "none", "CDG-Y110"),
        ("{devices: [nvidia.com/gpu=0]}", engine("podman", "5.4"), PODMAN_API, "cdi", None),
        (
            "{deploy: {resources: {reservations: {devices: [{count: 1}]}}}}",
            NEW,
            "docker compose",
            "none",
            "CDG-Y104",
        ),
    ],
)
def test_services_of_compose(
    tmp_path: Path,
    service: str,
    status: EngineStatus,
    program: str,
    mechanism: str,
    code: str | None,
) -> None:
    path = compose(tmp_path, service)
    answer = ask(f"{program} -f {path} up", status, CDI_HOOK)
    assert answer.mechanism == mechanism
    assert codes(answer) == ([code] if code else [])
    if code == "CDG-Y110" and status.version == "5.4.0":
        name = "all" if "gpus" in service else "0"
        assert answer.working == f"devices:\n  - nvidia.com/gpu={name}"


def test_reservation_without_capabilities_is_refused_by_docker(tmp_path: Path) -> None:
    service = "{deploy: {resources: {reservations: {devices: [{count: 1}]}}}}"
    answer = ask(f"docker compose -f {compose(tmp_path, service)} up", DOCKER, PRESTART_HOOK)
    assert answer.findings[0].fix == "add capabilities: [gpu]"


def test_swarm_ignores_devices(tmp_path: Path) -> None:
    path = compose(tmp_path, RESERVED)
    answer = ask(f"docker stack deploy -c {path} s", NEW, CDI_HOOK)
    assert (answer.mechanism, codes(answer)) == ("none", ["CDG-Y111"])


@pytest.mark.parametrize(
    ("options", "version", "code", "working"),
    [
        ("", "29.1", "CDG-Y112", "docker build --allow device=nvidia.com/gpu=all {}"),
        ("--allow device=nvidia.com/gpu=all ", "29.1", None, ""),
        ("--allow device ", "29.1", None, ""),
        ("--allow device=nvidia.com/gpu=all ", "28.5.2", "CDG-Y112", ""),
    ],
)
def test_build_of_docker(
    tmp_path: Path, options: str, version: str, code: str | None, working: str
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\nRUN --device=nvidia.com/gpu=all nvidia-smi\n")
    answer = ask(f"docker build {options}{tmp_path}", engine("docker", version))
    assert codes(answer) == ([code] if code else [])
    assert answer.working == working.format(tmp_path)


HOOKS_D = "/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json"


def test_prestart_hook_of_hooks_d() -> None:
    hook = {"hook": {"path": f"/usr/bin/{PRESTART_HOOK}"}, "stages": ["prestart"]}
    answer = ask(
        "podman run -e NVIDIA_VISIBLE_DEVICES=0 img",
        engine("podman", "5.4.2"),
        PRESTART_HOOK,
        files={HOOKS_D: json.dumps(hook)},
    )
    assert (answer.mechanism, answer.words) == ("prestart-hook", ("0",))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"hook": {"path": "/usr/bin/nvidia-container-toolkit"}}', "CDG-A210"),
        ("{", "CDG-A211"),
    ],
    ids=["no-program", "no-json"],
)
def test_hook_file_for_which_podman_starts_no_container(text: str, code: str) -> None:
    command = "podman run --device nvidia.com/gpu=all img"
    status, files = engine("podman", "5.4.2"), {HOOKS_D: text}
    assert codes(ask(command, status, "nvidia-container-toolkit")) == []
    answer = ask(command, status, files=files)
    assert codes(answer) == [code]
    assert answer.findings[0].fix == f"sudo rm {HOOKS_D}"
    assert codes(ask("docker run img", engine("docker", "28.5.2"), files=files)) == ["CDG-Y121"]


def test_configuration_that_the_engine_cannot_read() -> None:
    """That a runtime is not registered follows."""
    message = "/etc/docker/daemon.json: line 3, column 52: text after the end of the object"
    finding = Finding("CDG-E002", "warning", message, subject="/etc/docker/daemon.json")
    status = engine("docker", "28.5.2")._replace(findings=(finding,))
    answer = ask("docker run --runtime=nvidia img", status)
    assert codes(answer) == ["CDG-E002"]
    assert message in answer.findings[0].message
    assert answer.findings[0].fix == (
        "correct /etc/docker/daemon.json && sudo systemctl restart docker"
    )


def pod(folder: Path, **fields: object) -> str:
    container = {key: fields.pop(key) for key in ("resources", "env") if key in fields}
    spec = fields | {"containers": [{"name": "c"} | container]}
    document: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    path = folder / "pod.json"
    path.write_text(json.dumps(document))
    return str(path)


LIMIT = {"limits": {"nvidia.com/gpu": 1}}
ALL = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
CONTAINERD = engine("containerd", "2.1.9")


@pytest.mark.parametrize(
    ("fields", "status", "mechanism", "code"),
    [
        ({"resources": LIMIT}, CONTAINERD, "device-plugin", None),
        ({"resources": LIMIT}, engine("containerd", "1.7", cdi="off"), "device-plugin", "Y115"),
        (
            {"resources": LIMIT, "runtimeClassName": "nvidia"},
            engine("containerd", "2.1.9", shim=True),
            "device-plugin",
            None,
        ),
        (
            {"resources": LIMIT, "runtimeClassName": "nvidia"},
            CONTAINERD,
            "device-plugin",
            "Y105",
        ),
        ({"resources": {"requests": {"nvidia.com/gpu": 1}}}, CONTAINERD, "device-plugin", "Y116"),
        (
            {"resources": {"limits": {"nvidia.com/gpu": "0.5"}}},
            CONTAINERD,
            "device-plugin",
            "Y116",
        ),
        ({"env": ALL}, CONTAINERD, "none", "Y108"),
        (
            {"env": ALL, "runtimeClassName": "nvidia"},
            engine("containerd", "2.1.9", shim=True),
            "shim",
            "Y116",
        ),
        ({}, CONTAINERD, "none", "Y116"),
    ],
)
def test_containers_of_pods(
    tmp_path: Path,
    fields: dict[str, object],
    status: EngineStatus,
    mechanism: str,
    code: str | None,
) -> None:
    answer = ask(pod(tmp_path, **fields), status)
    assert answer.mechanism == mechanism
    assert codes(answer) == ([f"CDG-{code}"] if code else [])
