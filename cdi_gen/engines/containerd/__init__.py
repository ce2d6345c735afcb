# SPDX-License-Identifier: Apache-2.0
"""containerd: its configuration files, their versions and its daemons."""

from __future__ import annotations

from cdi_gen.engines.containerd.containerd import findings, plan

__all__ = ["findings", "plan"]
