# SPDX-License-Identifier: Apache-2.0
"""Finds running containers and what they have of the GPUs, from /proc; no engine is asked."""

from __future__ import annotations

from cdi_gen.containers.model import Allocation, Container, HeldDevice, Holder, Report, Use
from cdi_gen.containers.report import who

__all__ = ["Allocation", "Container", "HeldDevice", "Holder", "Report", "Use", "who"]
