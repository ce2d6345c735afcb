# SPDX-License-Identifier: Apache-2.0
"""What each mode of ``cdi-gen generate`` provides."""

from __future__ import annotations

from typing import Protocol

from cdi_gen.cdi.model import Spec
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory


class Mode(Protocol):
    """One value of ``cdi-gen generate --mode``."""

    @property
    def class_(self) -> str:
        """The class of the spec's CDI kind, unless the caller names another."""

    @property
    def transports(self) -> bool:
        """Whether the spec consists of transport nodes, and has no GPU and no file of the driver.

        The inventory must have been gathered with ``Where(transports=True)``.
        """

    def spec(self, inventory: Inventory, options: Options) -> Spec:
        """The spec of this mode.

        Raises:
            NoDriverError: the host has none of the mode's devices.
            UsageError: a device or capability that was asked for does not exist.
            CdiGenError: the spec cannot be made from this inventory, or the engine rejects it.
        """

    def summary(self, spec: Spec, inventory: Inventory, options: Options) -> str:
        """What the spec has, in a few words for a person: ``8 GPUs, driver 550.163.01``."""
