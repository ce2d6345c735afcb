# SPDX-License-Identifier: Apache-2.0
"""Real engines for pains: hosts that are entered with the engines of a Debian release."""

from __future__ import annotations

from tests.engine.matrix.conftest import crictl, host_of, place_of

__all__ = ["crictl", "host_of", "place_of"]
