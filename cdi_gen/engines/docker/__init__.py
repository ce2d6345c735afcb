# SPDX-License-Identifier: Apache-2.0
"""Docker: daemon.json and the daemon's options."""

from __future__ import annotations

from cdi_gen.engines.docker.docker import findings, plan

__all__ = ["findings", "plan"]
