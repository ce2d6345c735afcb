# SPDX-License-Identifier: Apache-2.0
"""Row ``preferred``: the choice of four GPUs of sixteen, beside NVIDIA's device plugin.

NVIDIA's plugin asks NVML for the links of all GPUs at each call; the NVML here is a mock, which
answers at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api
from tests.bench.contest import Lap, Line, wall_bar
from tests.bench.device_plugin import GPU, contestant
from tests.kubernetes.kubelet import Plugin

HOST = "550-16gpu"
GPUS = 4
LIMIT = 0.1


def preferred_allocation(runs: int) -> Iterator[Line]:
    """Ask both plugins in turns."""
    with contextlib.ExitStack() as stack:
        both = {name: contestant(stack, name, HOST, replicas=1) for name in ("ours", "nvidia")}
        for plugin in both.values():
            plugin.start()
        laps: dict[str, list[Lap]] = {name: [] for name in both}
        for _ in range(runs + 1):
            for name, plugin in both.items():
                started = time.perf_counter()
                choice = _choice(plugin.kubelet.plugins[GPU])
                laps[name].append(Lap((time.perf_counter() - started) * 1000, 0.0, 0.0))
                assert len(choice) == GPUS
        ours, nvidia = laps["ours"][1:], laps["nvidia"][1:]
        bar = wall_bar("ratio", ours, nvidia, LIMIT)
        yield Line("preferred", f"{GPUS} of 16 GPUs", ours, nvidia, bars=(bar,))


def _choice(plugin: Plugin) -> list[str]:
    request = api.PreferredAllocationRequest(
        container_requests=[
            api.ContainerPreferredAllocationRequest(
                available_deviceIDs=sorted(plugin.devices), allocation_size=GPUS
            )
        ]
    )
    answer = plugin.call("GetPreferredAllocation", request, api.PreferredAllocationResponse)
    return list(answer.container_responses[0].deviceIDs)
