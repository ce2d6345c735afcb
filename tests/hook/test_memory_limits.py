# SPDX-License-Identifier: Apache-2.0
"""The hook apply-cuda-memory-limits refuses containers that request limits, and ignores others."""

from __future__ import annotations

import json

import pytest

from tests.hook.conftest import HOOKS, Container, fingerprint
from tests.hook.runtimes import Runtime, hook_of, start

WORDS = ("apply-cuda-memory-limits", "--driver-root", "/", "--gpu-id", "GPU-0", "--gpu-id=GPU-1")


@pytest.fixture(params=["cdi-gen-hook", "nvidia-cdi-hook"])
def named(request: pytest.FixtureRequest, container: Container) -> Container:
    container.launcher = [str(HOOKS / request.param)]
    return container


def with_environment(container: Container, *entries: str) -> None:
    config = {"root": {"path": "rootfs"}, "process": {"env": ["PATH=/bin", *entries]}}
    (container.bundle / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("entries", [(), ("NVIDIA_GPU_MEMORY_LIMIT=",), ("NVIDIA_GPU_MEMORY=9",)])
def test_container_without_limits_starts(named: Container, entries: tuple[str, ...]) -> None:
    with_environment(named, *entries)
    before = fingerprint(named.root)
    ended = named.hook(*WORDS)
    assert (ended.status, ended.said) == (0, "")
    assert fingerprint(named.root) == before


@pytest.mark.parametrize(
    "entries",
    [
        ("NVIDIA_GPU_MEMORY_REQUEST=1024", "NVIDIA_GPU_MEMORY_LIMIT=2048"),
        ("NVIDIA_GPU_MEMORY_LIMIT=2048",),
        ("NVIDIA_GPU_MEMORY_LIMIT=", "NVIDIA_GPU_MEMORY_LIMIT=1\x1b[31m"),
    ],
)
def test_container_with_limits_is_refused(named: Container, entries: tuple[str, ...]) -> None:
    with_environment(named, *entries)
    ended = named.hook(*WORDS)
    assert ended.status == 1
    assert ended.said.startswith("cdi-gen-hook: apply-cuda-memory-limits: NVIDIA_GPU_MEMORY_")
    assert ended.said.count("\n") == 1
    assert ended.said.strip().isprintable()


def test_container_with_an_unreadable_config_json_is_refused(named: Container) -> None:
    assert named.hook(*WORDS, stdin=b'{"bundle": "/nowhere/at/all"}').status == 1
    (named.bundle / "config.json").unlink()
    assert named.hook(*WORDS).status == 1


def test_an_option_of_a_later_version(named: Container) -> None:
    with_environment(named)
    assert named.hook(*WORDS, "--soft-only").status == 2


@pytest.mark.parametrize("asks", [False, True])
def test_in_a_runtime(runtime: Runtime, bundle: Container, asks: bool) -> None:
    """The hook runs at the stage createRuntime."""
    spec = bundle.spec
    spec["hooks"]["createRuntime"] = [hook_of(bundle, *WORDS)]
    spec["process"]["env"] += ["NVIDIA_GPU_MEMORY_LIMIT=2048"] * asks
    ended = start(runtime, bundle)
    assert (ended.returncode == 0) == (not asks), ended.stderr
