# SPDX-License-Identifier: Apache-2.0
"""Fixtures that give tests nodes and clusters; a test that uses one has the mark ``kubernetes``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import pytest

from tests.fakehost.hosts import FakeHost
from tests.lab.cache import LabUnavailableError
from tests.lab.kubernetes import gpu_host, nvidia_device_plugin, programs
from tests.lab.kubernetes.charts import Charts
from tests.lab.kubernetes.cluster import Cluster, cluster
from tests.lab.kubernetes.combinations import Combination, combination
from tests.lab.kubernetes.node import Node, node
from tests.lab.kubernetes.standalone import Standalone, standalone

T = TypeVar("T", Node, Standalone, Cluster)

ENTERED = pytest.StashKey[list[Combination]]()
"""Where pytest's configuration has the combination of each node that is entered, if it is recorded."""


@pytest.fixture(scope="session")
def enter_node(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Node]]:
    """Give ``node``, which skips the test where there can be none."""
    return _or_skip(node, request.config.stash.get(ENTERED, None))


@pytest.fixture(scope="session")
def enter_standalone(
    request: pytest.FixtureRequest,
) -> Callable[..., AbstractContextManager[Standalone]]:
    """Give ``standalone``, which skips the test where there can be none."""
    return _or_skip(standalone, request.config.stash.get(ENTERED, None))


@pytest.fixture(scope="session")
def enter_cluster(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Cluster]]:
    """Give ``cluster``, which skips the test where there can be none."""
    return _or_skip(cluster, request.config.stash.get(ENTERED, None))


@pytest.fixture(scope="session")
def charts() -> Charts:
    """Give helm and kubectl for the chart; skips the test where they cannot be built."""
    try:
        return Charts(programs.helm(), programs.kubectl())
    except LabUnavailableError as error:
        pytest.skip(f"no helm: {error}")


@pytest.fixture(scope="session")
def with_gpus() -> Callable[[FakeHost], dict[str, Any]]:
    """Give ``gpu_host.furniture``, which skips the test where cdi-gen cannot run in a node."""
    return _furniture_or_skip(gpu_host.furniture)


@pytest.fixture(scope="session")
def with_nvidia_device_plugin() -> Callable[[FakeHost], dict[str, Any]]:
    """Give ``nvidia_device_plugin.furniture``, which skips the test where it cannot be built."""
    return _furniture_or_skip(nvidia_device_plugin.furniture)


def _furniture_or_skip(
    furniture: Callable[[FakeHost], dict[str, Any]],
) -> Callable[[FakeHost], dict[str, Any]]:
    def of(fake: FakeHost) -> dict[str, Any]:
        try:
            return furniture(fake)
        except LabUnavailableError as error:
            pytest.skip(str(error))

    return of


def _or_skip(
    manager: Callable[..., AbstractContextManager[T]], combinations: list[Combination] | None
) -> Callable[..., AbstractContextManager[T]]:
    @contextlib.contextmanager
    def enter(*arguments: Any, **options: Any) -> Iterator[T]:
        with contextlib.ExitStack() as stack:
            try:
                entered = stack.enter_context(manager(*arguments, **options))
            except LabUnavailableError as error:
                pytest.skip(f"no Kubernetes: {error}")
            if combinations is not None:
                combinations.append(combination(entered))
            yield entered

    return enter
