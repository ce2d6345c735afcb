# SPDX-License-Identifier: Apache-2.0
"""Passes over NVML, with each call counted and timed: ``passes.py COUNT PAUSE``. Prints JSON."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from typing import Any

from cdi_gen.host import Where
from cdi_gen.host.nvml_library import nvml_library
from cdi_gen.telemetry import library
from cdi_gen.telemetry.model import Reading
from cdi_gen.telemetry.telemetry import Telemetry


def main(count: str, pause: str) -> None:
    """Measure, and print what each pass took."""
    calls: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    call = library.Nvml.call

    def counted(nvml: library.Nvml, name: str, *arguments: Any) -> int:
        if name == "nvmlEventSetWait_v2":  # in a thread of its own, which waits
            return call(nvml, name, *arguments)
        start = time.perf_counter()
        try:
            return call(nvml, name, *arguments)
        finally:
            calls[name] += 1
            seconds[name] += time.perf_counter() - start

    library.Nvml.call = counted  # type: ignore[assignment,method-assign]
    passes = []
    reading = Reading(time=0, seconds=0)
    with Telemetry(lambda: nvml_library(Where())) as telemetry:
        for number in range(int(count)):
            if number == 1:
                calls.clear()
                seconds.clear()
            cpu, start = time.process_time(), time.perf_counter()
            reading = telemetry.read()
            passes.append((time.perf_counter() - start, time.process_time() - cpu))
            time.sleep(float(pause))
    quantities = {gpu.index: dict(gpu.quantities) for gpu in reading.gpus}
    json.dump(
        {
            "error": reading.error,
            "faults": {gpu.index: gpu.fault for gpu in reading.gpus if gpu.fault},
            "passes": passes,
            "calls": dict(calls),
            "seconds": dict(seconds),
            "quantities": quantities,
        },
        sys.stdout,
    )


main(*sys.argv[1:])
