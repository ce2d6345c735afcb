# SPDX-License-Identifier: Apache-2.0
"""Containers that come and go beside the service: those that live long enough are seen, none stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.fakehost.hosts import FakeHost
from tests.metrics import gpu_lab
from tests.metrics.churn import churn


def test_containers_that_come_and_go(
    own_host: Callable[[str], FakeHost], tmp_path: Path, lab_of: Callable[[str], object]
) -> None:
    lab_of(gpu_lab.SUITE)
    with gpu_lab.enter(own_host("550-8gpu"), tmp_path) as lab:
        result = churn(lab, 40)
    assert result.containers == 40
    assert result.lived_long > 5
    assert result.unseen == ()
    assert result.left == ()
    assert result.after["descriptors"] <= result.before["descriptors"] + 2
