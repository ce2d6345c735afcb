# SPDX-License-Identifier: Apache-2.0
"""containerd: its configuration files, their versions and its daemons."""

from __future__ import annotations

from cdi_gen.engines.containerd.configure import plan
from cdi_gen.engines.containerd.status import statuses

__all__ = ["plan", "statuses"]
