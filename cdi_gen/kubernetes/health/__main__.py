# SPDX-License-Identifier: Apache-2.0
"""The process that watches the GPUs, and writes a JSON line for each event.

It reads the request of its parent from standard input: ``{"library": PATH, "gpus": {UUID: PCI
address}}``. Each line is an object with one key: ``event``, ``check``, ``unwatched``, ``error`` or
``alive``. The process ends when its parent closes standard output.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.host.devices.nvml_health import HealthMonitor, monitor

WAIT_MILLISECONDS = 5000
CHECK_SECONDS = 30.0


def main() -> None:
    """Write what happens, for ever."""
    request = json.load(sys.stdin)
    try:
        with monitor(request["library"], request["gpus"]) as gpus:
            for uuid, reason in gpus.unwatched.items():
                _write("unwatched", {"gpu_uuid": uuid, "reason": reason})
            _watch(gpus)
    except NvmlUnavailable as error:
        _write("error", str(error))
    except BrokenPipeError:
        return


def _watch(gpus: HealthMonitor) -> None:
    next_check = 0.0
    while True:
        if time.monotonic() >= next_check:
            for check in gpus.checks():
                _write("check", check._asdict())
            next_check = time.monotonic() + CHECK_SECONDS
        event = gpus.wait(WAIT_MILLISECONDS)
        if event is None:
            _write("alive", {})
        else:
            _write("event", event._asdict())
            # What an event means may depend on what the driver says of the GPU now.
            next_check = 0.0


def _write(key: str, value: Any) -> None:
    sys.stdout.write(json.dumps({key: value}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
