# SPDX-License-Identifier: Apache-2.0
"""Compose files, manifests, quadlets and units are read as their programs read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdi_gen.why.command import quadlet, reading, unit_file
from cdi_gen.why.command.documents import DescriptionError
from cdi_gen.why.command.gpu_request import ALL, GpuRequest
from cdi_gen.why.command.request import ContainerRequest
from tests.unit.why.asking import requests


def written(folder: Path, name: str, text: str) -> list[ContainerRequest]:
    path = folder / name
    path.write_text(text)
    return reading.requests((str(path),), {})


COMPOSE = """
x-gpu: &gpu
  driver: cdi
services:
  reserved:
    image: ${IMAGE:-cuda}
    deploy: {resources: {reservations: {devices: [{<<: *gpu, device_ids: [nvidia.com/gpu=all]}]}}}
  nvidia:
    deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu]}]}}}
  short: {gpus: all}
  listed: {gpus: [{count: 2, driver: nvidia}]}
  devices:
    devices: [nvidia.com/gpu=0, {source: /dev/nvidia1, target: /dev/x}]
    runtime: nvidia
    environment: {NVIDIA_VISIBLE_DEVICES: 0}
"""


def test_services_of_a_compose_file(tmp_path: Path) -> None:
    found = {each.source.rpartition(" ")[2]: each for each in written(tmp_path, "c.yaml", COMPOSE)}
    assert found["reserved"].image == "cuda"
    assert found["reserved"].gpus == (
        GpuRequest("cdi", 0, ("nvidia.com/gpu=all",), None, key="devices"),
    )
    # Neither count nor device_ids: all devices.
    assert found["nvidia"].gpus == (GpuRequest("nvidia", ALL, (), ("gpu",), key="devices"),)
    assert found["short"].gpus == (GpuRequest("", ALL, (), ("gpu",), key="gpus"),)
    assert found["listed"].gpus == (GpuRequest("nvidia", 2, (), ("gpu",), key="gpus"),)
    assert found["devices"].devices == ("nvidia.com/gpu=0", "/dev/nvidia1")
    assert found["devices"].runtime == "nvidia"
    assert found["devices"].variable("NVIDIA_VISIBLE_DEVICES") == "0"


@pytest.mark.parametrize("count", ["--5", "9" * 5000, "²"])
def test_count_that_is_no_number(count: str, tmp_path: Path) -> None:
    device = f"{{driver: cdi, capabilities: [gpu], count: '{count}'}}"
    reservations = f"{{reservations: {{devices: [{device}]}}}}"
    text = f"services: {{a: {{deploy: {{resources: {reservations}}}}}}}"
    (found,) = written(tmp_path, "c.yaml", text)
    assert [finding.code for finding in found.findings] == ["CDG-Y107"]


def test_default_of_a_variable_has_a_limit(tmp_path: Path) -> None:
    """Without one, 1 MB of `${A:-` takes an hour."""
    image = f"${{A:-{'x' * 2000}}}"
    (found,) = written(tmp_path, "c.yaml", f"services: {{a: {{image: '{image}'}}}}")
    assert found.image == image


def test_services_of_a_compose_command(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(COMPOSE)
    (found,) = requests(f"docker compose -f {tmp_path}/c.yaml up -d short")
    assert (found.engine, found.source) == ("docker", f"{tmp_path}/c.yaml: service short")
    (found,) = requests(f"podman-compose -f {tmp_path}/c.yaml run --rm short sh")
    assert found.engine == "podman"
    swarm = requests(f"docker stack deploy -c {tmp_path}/c.yaml name")
    assert {each.action for each in swarm} == {"service"}


MANIFESTS = """
apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {nvidia.cdi.k8s.io/pod: nvidia.com/gpu=0}}
spec:
  runtimeClassName: nvidia
  resourceClaims: [{name: gpu, resourceClaimTemplateName: one-gpu}]
  volumes: [{name: dev, hostPath: {path: /dev/nvidia0}}]
  initContainers:
    - name: i
      env: [{name: NVIDIA_VISIBLE_DEVICES, value: void}]
  containers:
    - name: c
      image: cuda
      resources: {limits: {nvidia.com/gpu: 1}, requests: {nvidia.com/gpu: "1"}, claims: [{name: gpu}]}
      volumeMounts: [{name: dev, mountPath: /dev/nvidia0}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: cron}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: d, resources: {claims: [{name: x}]}}]}}}}}
---
apiVersion: v1
kind: List
items:
  - {apiVersion: apps/v1, kind: Deployment, metadata: {name: l}, spec: {template: {spec: {containers: [{name: e}]}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: no-pod}
"""


def test_containers_of_manifests(tmp_path: Path) -> None:
    init, main, cron, listed = written(tmp_path, "pod.yaml", MANIFESTS)
    assert init.variable("NVIDIA_VISIBLE_DEVICES") == "void"
    assert main.source == f"{tmp_path}/pod.yaml: Pod p, container c"
    assert main.resources == main.requested_resources == (("nvidia.com/gpu", "1"),)
    assert (main.runtime_class, main.claims) == ("nvidia", ("gpu (one-gpu)",))
    assert main.mounts == (("/dev/nvidia0", "/dev/nvidia0"),)
    assert main.annotations == (("nvidia.cdi.k8s.io/pod", "nvidia.com/gpu=0"),)
    assert listed.source.endswith("Deployment l, container e")
    # The pod of the CronJob does not list the claim.
    assert [finding.code for finding in cron.findings] == ["CDG-Y124"]


QUADLET = """\
[Unit]
Description=x
[Container]
Image=cuda
AddDevice=nvidia.com/gpu=all
Environment=A=1 "NVIDIA_VISIBLE_DEVICES=0"
SecurityLabelDisable=true
PodmanArgs=--gpus all \\
# a comment does not end the line
  --group-add keep-groups
Exec=nvidia-smi -L
"""


def test_quadlet_is_a_podman_command(tmp_path: Path) -> None:
    (found,) = written(tmp_path, "x.container", QUADLET)
    assert (found.engine, found.program, found.image) == ("podman", "quadlet", "cuda")
    assert found.devices == ("nvidia.com/gpu=all",)
    assert found.podman_gpus == ("all",)
    assert found.environment == (("A", "1"), ("NVIDIA_VISIBLE_DEVICES", "0"))
    assert found.security_options == ("label=disable",)
    assert found.groups == ("keep-groups",)


def test_build_quadlet(tmp_path: Path) -> None:
    text = "[Build]\nImageTag=x\nPodmanArgs=--device nvidia.com/gpu=0\nSetWorkingDirectory=unit\n"
    (found,) = written(tmp_path, "x.build", text)
    assert (found.action, found.devices) == ("build", ("nvidia.com/gpu=0",))


@pytest.mark.parametrize(
    ("suffix", "line", "fix"),
    [
        (
            ".container",
            "[Container]\nImage=x\nAddDevice=-nvidia.com/gpu=all",
            "write AddDevice=nvidia.com/gpu=all",
        ),
        (
            ".container",
            "[Container]\nImage=x\nDevice=nvidia.com/gpu=0",
            "write AddDevice=nvidia.com/gpu=0",
        ),
        (
            ".build",
            "[Build]\nAddDevice=nvidia.com/gpu=0",
            "write PodmanArgs=--device nvidia.com/gpu=0",
        ),
    ],
)
def test_quadlet_without_the_device(suffix: str, line: str, fix: str) -> None:
    _, findings = quadlet.command(line, f"x{suffix}")
    assert [(finding.code, finding.fix) for finding in findings] == [("CDG-Y122", fix)]


def test_service_that_runs_podman(tmp_path: Path) -> None:
    text = (
        "[Service]\nEnvironment=CONTAINER_HOST=unix:///p\nExecStartPre=-/usr/bin/podman rm x\n"
        "ExecStart=/usr/bin/podman run --rm --device nvidia.com/gpu=all \\\n  cuda nvidia-smi\n"
    )
    (found,) = written(tmp_path, "x.service", text)
    assert found.devices == ("nvidia.com/gpu=all",)
    assert found.endpoint == "unix:///p"


def test_empty_value_cancels_earlier_ones() -> None:
    listed = [*unit_file.entries("[S]\nK=1\nK=\nK=2\n")]
    assert unit_file.all_values(listed, "S", "K") == ["2"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.yaml", "a: [", "is no YAML"),
        ("x.yaml", "kind: none\n", "describes no container"),
        ("x.service", "[Service]\nExecStart=/bin/true\n", "describes no container"),
    ],
)
def test_file_that_describes_no_container(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(DescriptionError) as raised:
        written(tmp_path, name, text)
    assert message in raised.value.message


def test_missing_file_is_reported() -> None:
    with pytest.raises(DescriptionError) as raised:
        reading.requests(("/nonexistent/x.yaml",), {})
    assert "No such file" in raised.value.message
