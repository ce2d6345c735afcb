# SPDX-License-Identifier: Apache-2.0
"""NVML without a host around it: the mock, some GPUs, and their values."""

from __future__ import annotations

import ctypes
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.fakehost import nvml_mock
from tests.fakehost.gpus import Gpu
from tests.fakehost.kernel import Kernel
from tests.fakehost.nvml_values import NvmlValues, set_typical

VERSION = "550.163.01"
PATIENCE = 60.0
"""Seconds."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Mocked:
    """A library in a directory of its own."""

    library: Path
    values: NvmlValues

    def describe(
        self, gpus: tuple[Gpu, ...], version: str = VERSION, *, nvlink: bool = False
    ) -> None:
        """Say which GPUs the host has; NVML reads it when it is initialised.

        Args:
            gpus: in NVML's order.
            version: the driver's.
            nvlink: the GPUs are connected by switches, and are in a fabric.
        """
        kernel = Kernel(driver_version=version, gpus=gpus, nvswitches=4 * nvlink)
        text = nvml_mock.description(kernel, version)
        for index in range(len(gpus) * nvlink):
            text += f"fabric {index} {'ab' * 16} 1 3\n"
        self.library.with_name(nvml_mock.DESCRIPTION).write_text(text, encoding="ascii")

    def count(self, name: str) -> int:
        """Return how many ``calls``, ``gpm_samples``, ``event_sets`` or ``users`` NVML has.

        Of the library that this process has loaded.
        """
        library = ctypes.CDLL(str(self.library))
        library.nvmlMockCount.restype = ctypes.c_longlong
        return int(library.nvmlMockCount(name.encode()))


def until(condition: Callable[[], Value | None]) -> Value:
    """Wait until a value is true, and return it."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "it does not hold in time"
        time.sleep(0.01)
    return value


def mock(directory: Path, gpus: tuple[Gpu, ...], version: str = VERSION) -> Mocked:
    """Make a library with these GPUs, whose values are typical and differ."""
    path = directory / nvml_mock.SONAME
    shutil.copy(nvml_mock.library(), path)
    path.chmod(0o644)
    mocked = Mocked(path, NvmlValues(path))
    mocked.describe(gpus, version)
    for index in range(len(gpus)):
        set_typical(mocked.values, str(index), index)
    return mocked
