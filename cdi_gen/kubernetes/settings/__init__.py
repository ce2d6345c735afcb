# SPDX-License-Identifier: Apache-2.0
"""The settings of the device plugin, from flags, environment and NVIDIA's config file."""

from cdi_gen.kubernetes.settings.model import (
    ALL_DEVICES,
    DEFAULTS,
    Imex,
    ResourceRule,
    Settings,
    SharedResource,
    Sharing,
)

__all__ = [
    "ALL_DEVICES",
    "DEFAULTS",
    "Imex",
    "ResourceRule",
    "Settings",
    "SharedResource",
    "Sharing",
]
