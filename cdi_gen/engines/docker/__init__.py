# SPDX-License-Identifier: Apache-2.0
"""Docker: daemon.json and the daemon's options."""

from __future__ import annotations

from cdi_gen.engines.docker.configure import plan
from cdi_gen.engines.docker.status import statuses

__all__ = ["plan", "statuses"]
