# SPDX-License-Identifier: Apache-2.0
"""Fixtures that give tests an NVML whose answers they change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.fakehost.gpus import Gpu
from tests.telemetry.mocked import VERSION, Mocked, mock

MakeNvml = Callable[..., Mocked]


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeNvml:
    """Make a mock of NVML with these GPUs, in a directory of the test."""
    # The thread that waits for events ends within this time.
    monkeypatch.setattr("cdi_gen.telemetry.events._WAIT_MILLISECONDS", 20)

    def make(*gpus: Gpu, version: str = VERSION) -> Mocked:
        try:
            return mock(tmp_path, gpus, version)
        except DriverRootUnavailableError as error:
            pytest.skip(str(error))

    return make
