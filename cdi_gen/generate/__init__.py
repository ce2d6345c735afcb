# SPDX-License-Identifier: Apache-2.0
"""Generates CDI specs from an inventory. It does no I/O: equal inventories give equal specs.

``generate`` returns the spec of the GPUs, ``generate_capabilities`` the spec of the driver
capabilities as devices. ``cdi_gen.generate.modes`` has every mode of ``cdi-gen generate``.
"""

from __future__ import annotations

from cdi_gen.generate.gpus import count
from cdi_gen.generate.modes.cap import generate_capabilities
from cdi_gen.generate.modes.nvml import generate
from cdi_gen.generate.options import DEFAULTS, Options

__all__ = ["DEFAULTS", "Options", "count", "generate", "generate_capabilities"]
