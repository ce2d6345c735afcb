# SPDX-License-Identifier: Apache-2.0
"""What tests with gRPC leave behind is gone before the next module's."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator

import pytest


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
