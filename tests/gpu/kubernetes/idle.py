# SPDX-License-Identifier: Apache-2.0
"""What the device plugin costs while nothing asks it."""

from __future__ import annotations

import time

from tests.gpu.kubernetes import measure
from tests.gpu.kubernetes.page import Lines, require
from tests.gpu.kubernetes.plugin import Plugin
from tests.lab.kubernetes.standalone import Standalone

STARTS = 3
SETTLING_SECONDS = 6
IDLE_SECONDS = 60
MOST_PERCENT = 0.1
"""Of a core, for the plugin without the process that watches the GPUs."""


def idle(kubernetes: Standalone) -> Lines:
    """The time of some starts; then processor time by thread, and memory, of an idle minute."""
    for _ in range(STARTS - 1):
        plugin = Plugin(kubernetes)
        yield f"ready after {plugin.ready_seconds:.2f} s"
        plugin.stop()
    plugin = Plugin(kubernetes)
    yield f"ready after {plugin.ready_seconds:.2f} s"
    time.sleep(SETTLING_SECONDS)
    node, pids = kubernetes.node, plugin.pids()
    before = {pid: measure.processor_time(node, pid) for pid in pids}
    time.sleep(IDLE_SECONDS)
    after = {pid: measure.processor_time(node, pid) for pid in pids}
    for pid in pids:
        title = "the plugin" if pid == plugin.process.pid else "its health process"
        used = {thread: end - before[pid].get(thread, 0) for thread, end in after[pid].items()}
        mib = measure.usage(node, pid).resident_kib / 1024
        yield f"{title}, {IDLE_SECONDS} s: {percent(sum(used.values()))} of a core, {mib:.1f} MiB"
        yield from (f"  {name}: {percent(seconds)}" for name, seconds in used.items() if seconds)
    plugin.stop()
    own = sum(after[pids[0]].values()) - sum(before[pids[0]].values())
    most = MOST_PERCENT / 100 * IDLE_SECONDS
    require(own < most, f"the idle plugin uses less than {MOST_PERCENT} % of a core")


def percent(seconds: float) -> str:
    """Return processor time in percent of a core."""
    return f"{seconds / IDLE_SECONDS * 100:.4f} %"
