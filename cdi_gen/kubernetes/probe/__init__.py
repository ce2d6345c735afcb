# SPDX-License-Identifier: Apache-2.0
"""Asks the host for its facts, in a process of its own for each time.

NVML can hang for minutes, and a process that has loaded it keeps the old library after the driver
was replaced, and the nodes that prevent its removal open. A short process has none of these faults.
"""

from cdi_gen.kubernetes.probe.facts import Facts
from cdi_gen.kubernetes.probe.host import Host, ThisHost
from cdi_gen.kubernetes.probe.process import ProbeError, probe

__all__ = ["Facts", "Host", "ProbeError", "ThisHost", "probe"]
