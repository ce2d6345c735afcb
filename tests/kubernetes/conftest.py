# SPDX-License-Identifier: Apache-2.0
"""What gRPC leaves is closed before the next module, and results of tests with nodes are kept."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator

import pytest

from tests.kubernetes.recording import Recorder, Writer


def pytest_configure(config: pytest.Config) -> None:
    """Record the tests, and write docs/cluster-tests.md in the process that has all results."""
    if config.getoption("--update-kubernetes"):
        config.pluginmanager.register(Recorder(config))
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(Writer(config))


@pytest.fixture(scope="module", autouse=True)
def descriptors_are_settled() -> Iterator[None]:
    """Wait until gRPC's threads have closed what they close: other tests count descriptors."""
    yield
    gc.collect()
    before, unchanged = -1, 0
    while unchanged < 5:
        time.sleep(0.02)
        count = len(os.listdir("/proc/self/fd"))
        unchanged = unchanged + 1 if count == before else 0
        before = count
