# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen metrics --once`` on a host with GPUs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cli.program import cdi_gen
from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_values import NvmlValues, set_typical

pytestmark = pytest.mark.host


def test_once_has_the_values_that_need_two_passes(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-1gpu")
    set_typical(NvmlValues(fake.nvml), "0")
    result = cdi_gen("metrics", "--once", "--examine", "none", "--host-root", str(fake.root))
    assert result.code == 0
    samples = dict(line.rsplit(" ", 1) for line in result.out.splitlines() if line[0] != "#")
    values = {name.partition("{")[0]: float(value) for name, value in samples.items()}
    assert values["DCGM_FI_DEV_SM_CLOCK"] == 1755
    assert values["DCGM_FI_PROF_GR_ENGINE_ACTIVE"] == 0.915
    assert values["DCGM_FI_PROF_PCIE_TX_BYTES"] == 1500 * 1024 * 1024
