# SPDX-License-Identifier: Apache-2.0
"""The process of one examination: a request on standard input, the state on standard output.

It takes the lowest priority before it imports anything large, and ends when its time is over, also
if the service that waits for it was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cdi_gen.errors import CdiGenError
from cdi_gen.metrics.own.model import DOCTOR, SPECS

if TYPE_CHECKING:
    from cdi_gen.metrics.own.model import DevicePluginState, DoctorState, SpecState

LOWEST_PRIORITY = 19


def main() -> None:
    """Write the state, or the error that prevents it."""
    os.nice(LOWEST_PRIORITY)
    _be_killed_first()
    request: dict[str, Any] = json.load(sys.stdin)
    signal.alarm(request["seconds"])
    try:
        document = {"state": asdict(_state(request))}
    except CdiGenError as error:
        document = {"error": {"message": error.message, "code": error.code, "hint": error.hint}}
    json.dump(document, sys.stdout)


def _state(request: dict[str, Any]) -> SpecState | DoctorState | DevicePluginState:
    # Each imports what it needs: that of the specs is the most frequent.
    from cdi_gen.metrics.own import specs  # noqa: PLC0415

    layout = specs.layout_of(request["layout"])
    if request["name"] == SPECS:
        return specs.examine(layout)
    if request["name"] == DOCTOR:
        from cdi_gen.metrics.own import doctor  # noqa: PLC0415

        return doctor.examine(layout)
    from cdi_gen.metrics.own import device_plugin  # noqa: PLC0415

    return device_plugin.examine(layout, request["plugin_metrics"])


def _be_killed_first() -> None:
    """Let the kernel end this process, and not the service, if memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        return  # a sandbox without a writable /proc


if __name__ == "__main__":
    main()
