# SPDX-License-Identifier: Apache-2.0
"""Finds an interpreter of the host for the programs. Runs in the host's root."""

from __future__ import annotations

import os

from cdi_base import trust
from cdi_gen.engines.machine import Machine
from cdi_gen.errors import CdiGenError

CANDIDATES = (
    "/usr/bin/python3",
    *(f"/usr/bin/python3.{minor}" for minor in range(15, 8, -1)),
    "/usr/local/bin/python3",
)
OLDEST = (3, 9)
"""The oldest Python that the programs of hooks/ run on."""
_VERSION = "import sys; print(*sys.version_info[:2])"


def find_python() -> str:
    """Return the path of a Python that only root can change.

    Raises:
        CdiGenError: the host has none that is new enough.
    """
    machine = Machine()
    reasons = []
    for path in CANDIDATES:
        if not os.access(path, os.X_OK):
            continue
        try:
            fault = trust.fault(path)
        except OSError as error:
            fault = error.strerror
        output = None if fault else machine.output(path, "-IS", "-c", _VERSION)
        words = (output or "").split()
        if len(words) == 2 and tuple(map(int, words)) >= OLDEST:
            return path
        reasons.append(f"{path}: {fault or ('.'.join(words) or 'it does not start')}")
    reason = f" ({'; '.join(reasons)})" if reasons else ""
    raise CdiGenError(
        f"the host has no Python {OLDEST[0]}.{OLDEST[1]} or newer{reason}, and there is no bundle",
        hint="use an image that has /usr/share/cdi-gen/bundle, or name a bundle with --bundle; or "
        "--hook-free, which needs no program on the host",
        code="CDG-N403",
    )
