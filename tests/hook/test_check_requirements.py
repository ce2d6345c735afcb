# SPDX-License-Identifier: Apache-2.0
"""The step check-requirements compares the image's requirements with the facts in the spec."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from typing import Any

import pytest

from tests.hook.conftest import ENVIRONMENT, HOOK, PYTHON, Container, Ended, fingerprint
from tests.hook.runtimes import Runtime, hook_of, in_a_user_namespace, start

HOST = (
    "--host-cuda-version=13.0", "--host-driver-version=580.95.05",
    "--gpu=0:9.0:nvidia", "--gpu", "1:7.5:tesla",
)  # fmt: skip
ALONE = ("check-requirements", *HOST)
TOGETHER = ("create-container", "--check-requirements", *HOST)


def require(container: Container, *entries: str, **more: Any) -> None:
    config = {"root": {"path": "rootfs"}, "process": {"env": list(entries)}} | more
    (container.bundle / "config.json").write_text(json.dumps(config))


def add_gpu(container: Container, minor: int) -> None:
    os.mknod(container.root / f"dev/nvidia{minor}", stat.S_IFCHR | 0o666, os.makedev(195, minor))


def assert_starts(ended: Ended, output: str = "") -> None:
    assert (ended.status, ended.said) == (0, output), ended


def assert_refused(ended: Ended, *words: str) -> None:
    assert ended.status == 1, ended
    assert ended.said.count("\n") == 1
    for word in words:
        assert word in ended.said


@pytest.mark.parametrize("words", [ALONE, TOGETHER], ids=["alone", "together"])
@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], None),
        (["PATH=/bin", "NVIDIA_REQUIRE_CUDA=cuda>=12.4"], None),
        (["NVIDIA_REQUIRE_CUDA=cuda>=13.1 brand=nvidia,driver>=580,driver<581"], None),
        (["NVIDIA_REQUIRE_CUDA=cuda>=13.1"], "NVIDIA_REQUIRE_CUDA is not satisfied: cuda>=13.1 (this host: 13.0)"),
        (["NVIDIA_REQUIRE_X=driver>=590"], "driver>=590 (this host: 580.95.05)"),
        (["NVIDIA_REQUIRE_CUDA=cuda>=13.1", "NVIDIA_DISABLE_REQUIRE=true"], None),
        (["NVIDIA_REQUIRE_CUDA=cuda>=13.1", "NVIDIA_DISABLE_REQUIRE=no"], "cuda>=13.1"),
        (["CUDA_VERSION=13.1.0"], "CUDA_VERSION is not satisfied: cuda>=13.1 (this host: 13.0)"),
        # As in a shell, the last entry of a name counts; an entry without a value is ignored.
        (["NVIDIA_REQUIRE_CUDA=cuda>=99", "NVIDIA_REQUIRE_CUDA=cuda>=12"], None),
        (["NVIDIA_REQUIRE_CUDA=cuda>=12", "NVIDIA_REQUIRE_CUDA=cuda>=99"], "cuda>=99"),
        (["NVIDIA_REQUIRE_CUDA", "=x", ""], None),
        (["NVIDIA_REQUIRE_CUDA=arch=9.0=1"], "arch=9.0=1 (at character 1)"),
    ],
)  # fmt: skip
def test_container_starts_only_if_the_requirements_hold(
    container: Container, words: tuple[str, ...], entries: list[str], reason: str | None
) -> None:
    require(container, *entries)
    before = fingerprint(container.root)
    ended = container.hook(*words)
    if reason:
        assert_refused(
            ended, reason, f"cdi-gen-hook: {words[0]}: ", "or set NVIDIA_DISABLE_REQUIRE=1"
        )
    else:
        assert_starts(ended)
    assert fingerprint(container.root) == before


@pytest.mark.parametrize(
    ("minors", "entry", "reason"),
    [
        ([], "brand=tesla,arch>=10", None),
        ([0], "brand=nvidia,arch>=9", None),
        ([0], "brand=tesla", "brand=tesla (/dev/nvidia0: nvidia)"),
        ([1], "brand=tesla", None),
        ([1], "arch>=8", "arch>=8 (/dev/nvidia1: 7.5)"),
        ([0, 1], "arch>=8", "arch>=8 (/dev/nvidia1: 7.5)"),
        ([0, 1], "arch>=7 brand=none", None),
        ([0, 1], "brand=nvidia brand=tesla", None),
    ],
)
def test_the_gpus_are_those_of_the_container(
    container: Container, minors: list[int], entry: str, reason: str | None
) -> None:
    for minor in minors:
        add_gpu(container, minor)
    require(container, f"NVIDIA_REQUIRE_GPU={entry}")
    ended = container.hook(*TOGETHER)
    if reason:
        assert_refused(ended, reason)
    else:
        assert_starts(ended)


def test_facts_missing_in_the_spec_stop_no_container(container: Container) -> None:
    add_gpu(container, 7)
    require(container, "NVIDIA_REQUIRE_CUDA=cuda>=13.1", "NVIDIA_REQUIRE_GPU=brand=tesla")
    ended = container.hook(
        "check-requirements", "--host-driver-version=580.95.05", "--gpu=0::tesla"
    )
    assert ended.status == 0
    start_of_line = "cdi-gen-hook: check-requirements: NVIDIA_REQUIRE_"
    assert ended.said.splitlines() == [
        f"{start_of_line}CUDA: not checked: cuda>=13.1: this host's cuda is unknown [CDG-R804]",
        f"{start_of_line}GPU: not checked: brand=tesla: /dev/nvidia7's brand is unknown [CDG-R804]",
    ]


def test_spec_without_facts_of_the_host(container: Container) -> None:
    require(container, "NVIDIA_REQUIRE_CUDA=cuda>=13.1")
    for words in (("check-requirements",), ("create-container", "--check-requirements")):
        ended = container.hook(*words)
        assert ended.status == 0
        assert "cuda>=13.1: this host's cuda is unknown" in ended.said


def test_requirements_are_checked_before_any_change(container: Container, library: Any) -> None:
    library(container.root / "opt/odd/libcuda.so.550.1", "libcuda.so.1")
    require(container, "NVIDIA_REQUIRE_CUDA=cuda>=13.1")
    before = fingerprint(container.root)
    words = ("--folder", "/opt/odd", "--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1")
    assert_refused(container.hook(*TOGETHER, *words), "cuda>=13.1")
    assert fingerprint(container.root) == before
    # Without the switch the check is not done; another step has the option of the version too.
    assert_starts(container.hook("create-container", *HOST, *words))
    assert (container.root / "etc/ld.so.cache").exists()


def test_bundle_of_crun_is_found_although_the_state_has_the_root(container: Container) -> None:
    """The state of crun has the root; the requirements are still in the bundle's config.json."""
    require(container, "NVIDIA_REQUIRE_CUDA=cuda>=13.1")
    state = {"root": str(container.root), "bundle": str(container.bundle)}
    assert_refused(container.hook(*ALONE, stdin=json.dumps(state).encode()), "cuda>=13.1")
    for other in ({}, {"bundle": "/nowhere"}, {"bundle": 7}, {"bundle": str(container.canary)}):
        ended = container.hook(
            *ALONE, stdin=json.dumps({"root": str(container.root)} | other).encode()
        )
        assert ended.status == 0
        assert "check-requirements: left out: the container's config.json" in ended.said


def test_config_json_of_the_image_is_not_read(container: Container) -> None:
    """With `cdi-gen hook run` the bundle is the container's root."""
    container.write("config.json", '{"process": {"env": ["NVIDIA_REQUIRE_CUDA=cuda>=99"]}}')
    state = {"root": str(container.root), "bundle": str(container.root)}
    ended = container.hook(*ALONE, stdin=json.dumps(state).encode())
    assert_starts(
        ended,
        "cdi-gen-hook: check-requirements: left out: the container's config.json cannot be found [CDG-K007]\n",
    )


@pytest.mark.parametrize(
    "config",
    [
        {"root": {"path": "rootfs"}, "process": {"env": "A=B"}},
        {"root": {"path": "rootfs"}, "process": {"env": ["A=B", 7]}},
    ],
)
def test_a_config_json_of_another_form_is_refused(container: Container, config: object) -> None:
    (container.bundle / "config.json").write_text(json.dumps(config))
    assert_refused(container.hook(*ALONE), "'process.env' of config.json is not a list of texts")


@pytest.mark.parametrize(
    "config", [{}, {"process": None}, {"process": {}}, {"process": {"env": None}}]
)
def test_a_container_without_an_environment(container: Container, config: dict[str, Any]) -> None:
    require(container)
    (container.bundle / "config.json").write_text(json.dumps({"root": {"path": "rootfs"}} | config))
    assert_starts(container.hook(*ALONE))


@pytest.mark.parametrize(
    "gpu",
    [
        "", "0", "0:9.0", ":9.0:nvidia", "x:9.0:nvidia", "-1:9.0:nvidia", "0:9.0:Nvidia", "0:9.0:radeon",
        "0:sm_90:nvidia", "0:9.0:nvidia:1", "\u0661:9.0:nvidia", "9999999999:9.0:nvidia",
    ],
)  # fmt: skip
def test_invalid_options_are_rejected(container: Container, gpu: str) -> None:
    require(container)
    ended = container.hook("check-requirements", f"--gpu={gpu}")
    assert ended.status == 2
    assert "--gpu" in ended.said


def test_hostile_text_is_shown_harmlessly(container: Container) -> None:
    name = "NVIDIA_REQUIRE_\x1b[2J\u202e"
    require(container, f"{name}=cuda>=\x1b[31m99\nroot")
    ended = container.hook("--debug", *ALONE)
    assert ended.status == 1
    assert all(line.isascii() and line.isprintable() for line in ended.said.splitlines())
    assert len(ended.said.splitlines()) == 2


def test_a_dry_run_reports_what_would_be_checked(container: Container) -> None:
    add_gpu(container, 0)
    require(container, "NVIDIA_REQUIRE_CUDA=cuda>=12.4")
    ended = container.hook("--dry-run", *TOGETHER)
    assert_starts(ended)
    assert ended.stdout == (
        "check 'NVIDIA_REQUIRE_CUDA' against cuda 13.0, driver 580.95.05, "
        "/dev/nvidia0 arch 9.0, /dev/nvidia0 brand nvidia\n"
    )
    require(container, "NVIDIA_REQUIRE_CUDA=cuda>=13.1")
    assert_refused(container.hook("--dry-run", *TOGETHER), "cuda>=13.1 (this host: 13.0)")


@pytest.mark.parametrize("is_requested", [True, False])
def test_module_is_imported_only_if_the_check_is_requested(
    container: Container, is_requested: bool
) -> None:
    require(container)
    ended = subprocess.run(
        [PYTHON, "-IS", "-X", "importtime", HOOK, *(TOGETHER if is_requested else ("chmod", "--path=/dev/x", "--mode=755"))],
        input=container.state(), capture_output=True, env=ENVIRONMENT, cwd=container.root, check=True,
    )  # fmt: skip
    assert (b"cdi_base.requirement\n" in ended.stderr) is is_requested
    assert (b"cdi_hook.steps.check_requirements\n" in ended.stderr) is is_requested


def in_a_runtime(bundle: Container, *entries: str) -> None:
    spec = bundle.spec
    spec["hooks"] = {"createContainer": [hook_of(bundle, *TOGETHER)]}
    spec["process"]["env"] += entries
    spec["process"]["args"] = ["/bin/busybox", "echo", "started"]
    spec["linux"]["devices"] = [
        {"path": "/dev/nvidia1", "type": "c", "major": 195, "minor": 1, "fileMode": 0o666}
    ]


def test_in_a_runtime(runtime: Runtime, bundle: Container) -> None:
    in_a_runtime(bundle, "NVIDIA_REQUIRE_CUDA=cuda>=99 brand=tesla,driver>=580,driver<581")
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stdout) == (0, "started\n"), ended.stderr


def test_runtime_does_not_start_a_container_with_unmet_requirements(
    runtime: Runtime, bundle: Container
) -> None:
    in_a_runtime(bundle, "NVIDIA_REQUIRE_CUDA=cuda>=99 brand=nvidia,driver>=580,driver<581")
    ended = start(runtime, bundle)
    assert ended.returncode != 0
    assert "started" not in ended.stdout
    if runtime.name == "runc":
        # crun sends what a hook says to /dev/null.
        assert "cuda>=99 (this host: 13.0); or brand=nvidia" in ended.stderr
        assert "brand=nvidia (/dev/nvidia1: tesla)" in ended.stderr


@pytest.mark.parametrize("users", [65536, 1])
def test_in_a_user_namespace(runtime: Runtime, bundle: Container, users: int) -> None:
    """The step is left out if the hook has no permission to read config.json."""
    in_a_runtime(bundle, "NVIDIA_REQUIRE_CUDA=cuda>=99")
    bundle.spec["linux"]["devices"] = []
    in_a_user_namespace(bundle, users)
    ended = start(runtime, bundle)
    assert ended.returncode != 0
    (bundle.bundle / "config.json").chmod(0o600)
    ended = runtime.run(bundle.bundle)
    assert (ended.returncode, ended.stdout) == (0, "started\n"), ended.stderr
