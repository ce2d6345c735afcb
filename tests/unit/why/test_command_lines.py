# SPDX-License-Identifier: Apache-2.0
"""Command lines are read as their programs read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdi_gen.errors import UsageError
from cdi_gen.why.command import comma_values, dockerfile, gpu_request, option_table, prefix, reading
from cdi_gen.why.command.gpu_request import ALL, GpuRequest, GpuRequestError
from tests.unit.why.asking import request


@pytest.mark.parametrize(
    ("command", "image", "devices"),
    [
        ("docker run --device nvidia.com/gpu=all img", "img", ("nvidia.com/gpu=all",)),
        ("docker run -it --rm --device=nvidia.com/gpu=0 img sh", "img", ("nvidia.com/gpu=0",)),
        # Words after the image are the container's (SetInterspersed(false)).
        ("docker run img --device nvidia.com/gpu=0", "img", ()),
        ("docker run -- img --device x", "img", ()),
        ("docker --context default container run --device x img", "img", ("x",)),
        ("docker run -itv /a:/b --name n --device x img", "img", ("x",)),
        ("docker run --rm=false --privileged=true img", "img", ()),
        # pflag: an optional value needs '='; podman's persistent options may follow the command.
        ("podman run --log-level debug --device x img", "img", ("x",)),
        ("podman --cgroup-manager=cgroupfs run --tls-verify img", "img", ()),
        # A list of Podman's is split at commas; --device is not a list.
        ("podman run --group-add a,b --device x,y img", "img", ("x,y",)),
        ("nerdctl --namespace k8s.io run --device x,y img", "img", ("x", "y")),
        # Go's package flag: one dash is enough, and nothing follows the first argument.
        ("ctr -n k8s.io run -rm -device x --net-host img id --device y", "img", ("x",)),
        ("ctr run --device=x -t=true img id", "img", ("x",)),
        ("sudo -u root -E docker run --device x img", "img", ("x",)),
        ("DOCKER_HOST=unix:///x env A=b podman run --device x img", "img", ("x",)),
        ("'docker run --device x img'", "img", ("x",)),
        ("$ docker run --device x img", "img", ("x",)),
    ],
)
def test_image_and_devices_of_a_command_line(
    command: str, image: str, devices: tuple[str, ...]
) -> None:
    found = request(command)
    assert (found.image, found.devices) == (image, devices)
    assert "CDG-Y101" not in [finding.code for finding in found.findings]


def test_all_that_matters_is_taken_from_a_command_line() -> None:
    found = request(
        "podman --hooks-dir /h --cdi-spec-dir /c run --runtime crun -e A=1 -eB=2 -e=C=3 -e HOME "
        "--annotation k=v --security-opt label=disable --group-add keep-groups --cap-add SYS_ADMIN "
        "-v /dev/null:/var/run/x:ro --userns keep-id --privileged img",
        {"HOME": "/root"},
    )
    assert found.runtime == "crun"
    assert found.environment == (("A", "1"), ("B", "2"), ("C", "3"), ("HOME", "/root"))
    assert found.annotations == (("k", "v"),)
    assert found.mounts == (("/dev/null", "/var/run/x"),)
    assert (found.hooks_directories, found.spec_directories) == (("/h",), ("/c",))
    assert found.groups == ("keep-groups",)
    assert found.security_options == ("label=disable",)
    assert found.capabilities_added == ("SYS_ADMIN",)
    assert found.privileged


@pytest.mark.parametrize(
    ("command", "environment", "endpoint"),
    [
        ("docker run img", {}, ""),
        ("docker run img", {"DOCKER_HOST": "tcp://a:1"}, "tcp://a:1"),
        ("docker -H ssh://b run img", {"DOCKER_HOST": "tcp://a:1"}, "ssh://b"),
        ("docker --context remote run img", {}, "context remote"),
        ("docker run img", {"DOCKER_CONTEXT": "default"}, ""),
        ("DOCKER_HOST=ssh://c docker run img", {}, "ssh://c"),
        ("podman --url ssh://d run img", {}, "ssh://d"),
        ("podman run img", {"CONTAINER_HOST": "unix:///p"}, "unix:///p"),
        ("podman -r run img", {}, "the default connection"),
    ],
)
def test_daemon_that_is_asked(command: str, environment: dict[str, str], endpoint: str) -> None:
    assert request(command, environment).endpoint == endpoint


@pytest.mark.parametrize(
    ("command", "as_root"),
    [
        ("podman run img", None),
        ("sudo podman run img", True),
        ("sudo -u alice podman run img", False),
        ("sudo --user=root podman run img", True),
        ("doas -u bob podman run img", False),
        ("env -i A=b podman run img", None),
    ],
)
def test_user_who_asks(command: str, as_root: bool | None) -> None:
    assert request(command).as_root is as_root


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("docker run --gpu all img", "no option --gpu"),
        ("docker run -Z img", "no option -Z"),
        ("docker run --device", "flag needs an argument: --device"),
        ("docker run --rm", "needs an image"),
        ("ctr run img", "needs an image and an id"),
        ("podman --nope run img", "podman has no option --nope"),
    ],
)
def test_command_line_that_the_program_rejects(command: str, message: str) -> None:
    (finding,) = request(command).findings
    assert finding.code == "CDG-Y101"
    assert message in finding.message


def test_mistyped_option_has_a_suggestion() -> None:
    (finding,) = request("docker run --gpu all img").findings
    assert finding.fix == "did you mean --gpus?"


@pytest.mark.parametrize("command", ["docker ps", "podman exec c sh", "ls -l", "docker"])
def test_command_that_starts_no_container_is_an_error(command: str) -> None:
    with pytest.raises(UsageError) as raised:
        request(command)
    assert raised.value.code == "CDG-Y123"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("all", GpuRequest(number=ALL, capabilities=("gpu",))),
        ("2", GpuRequest(number=2, capabilities=("gpu",))),
        ("count=2", GpuRequest(number=2, capabilities=("gpu",))),
        ("device=GPU-1", GpuRequest(devices=("GPU-1",), capabilities=("gpu",))),
        ('"device=0,2"', GpuRequest(devices=("0", "2"), capabilities=("gpu",))),
        (
            '"capabilities=compute,utility",device=1',
            GpuRequest(devices=("1",), capabilities=("compute", "utility", "gpu")),
        ),
        ("driver=nvidia", GpuRequest(driver="nvidia", number=1, capabilities=("gpu",))),
        (
            "driver=cdi,device=nvidia.com/gpu=0",
            GpuRequest(driver="cdi", devices=("nvidia.com/gpu=0",), capabilities=("gpu",)),
        ),
        # Without the quotation marks the second device is a count, which dockerd refuses.
        ("device=0,2", GpuRequest(devices=("0",), number=2, capabilities=("gpu",))),
    ],
)
def test_value_of_gpus(value: str, expected: GpuRequest) -> None:
    assert gpu_request.docker(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "EOF"),
        ("some", 'invalid count (some): value must be either "all" or an integer'),
        ("gpu=1", "unexpected key 'gpu' in 'gpu=1'"),
        ("device=0,device=1", "gpu request key 'device' can be specified only once"),
        ('device="0,2"', 'bare " in non-quoted field'),
        ('"device=0', 'extraneous or missing " in quoted-field'),
    ],
)
def test_value_of_gpus_that_docker_rejects(value: str, message: str) -> None:
    with pytest.raises(GpuRequestError) as raised:
        gpu_request.docker(value)
    assert str(raised.value) == message


def test_quoted_field_may_contain_quotation_marks() -> None:
    assert comma_values.split('"a""b",c') == ('a"b', "c")


def test_variables_of_a_file_come_before_those_of_options(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# c\nNVIDIA_VISIBLE_DEVICES=all\nSECRET=x\nNVIDIA_DRIVER_CAPABILITIES\n")
    found = request(
        f"docker run --env-file {file} -e NVIDIA_VISIBLE_DEVICES=0 img",
        {"NVIDIA_DRIVER_CAPABILITIES": "all"},
    )
    assert found.variable("NVIDIA_VISIBLE_DEVICES") == "0"
    assert found.variable("NVIDIA_DRIVER_CAPABILITIES") == "all"
    assert "SECRET" not in dict(found.environment)


def test_file_of_variables_that_is_a_pipe_is_not_opened(tmp_path: Path) -> None:

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (finding,) = request(f"docker run --env-file {pipe} img").findings
    assert finding.code == "CDG-Y102"


def test_devices_of_a_dockerfile() -> None:
    text = (
        "FROM a\nRUN --device=nvidia.com/gpu=all nvidia-smi\n"
        "run --network=none --device=nvidia.com/gpu=0,required \\\n  make\n"
        "RUN --mount=type=cache,target=/x echo --device=no\n"
        "RUN --device=name=nvidia.com/gpu=1 x\n"
    )
    assert dockerfile.in_text(text) == (
        "nvidia.com/gpu=all",
        "nvidia.com/gpu=0",
        "nvidia.com/gpu=1",
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("docker", "run"), True),
        (("/usr/bin/podman", "run"), True),
        (("sudo", "docker", "run"), True),
        (("nvidia.com/gpu=0",), False),
        (("all",), False),
        (("no-such.container",), True),
    ],
)
def test_what_is_a_command(words: tuple[str, ...], expected: bool) -> None:
    assert reading.is_command(words) is expected


def test_words_before_the_program_are_kept() -> None:
    line = prefix.split(["sudo", "-E", "docker", "run", "x"])
    assert (line.before, line.words) == (("sudo", "-E"), ("docker", "run", "x"))


def test_option_that_an_older_version_lacks() -> None:
    table = option_table.table("podman", "run")
    assert table.is_missing_in("gpus", "4.3.1")
    assert not table.is_missing_in("gpus", "5.0.0")  # not known: between two listed versions
    assert not table.is_missing_in("device", "4.3.1")
