# SPDX-License-Identifier: Apache-2.0
"""The interface of each mode of ``cdi-gen generate``."""

from __future__ import annotations

from typing import Protocol

from cdi_gen.cdi.model import Spec
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory


class Mode(Protocol):
    """One value of ``cdi-gen generate --mode``."""

    @property
    def class_(self) -> str:
        """The default class of the spec's CDI kind."""

    @property
    def transports(self) -> bool:
        """Whether the spec has transport nodes only: no GPU and no file of the driver.

        The inventory must have been gathered with ``Where(transports=True)``.
        """

    def spec(self, inventory: Inventory, options: Options) -> Spec:
        """Return the spec of this mode.

        Raises:
            NoDriverError: the host has none of the mode's devices.
            UsageError: a requested device or capability does not exist.
            CdiGenError: the inventory is invalid, or the engine does not support the version.
        """

    def summary(self, spec: Spec, inventory: Inventory, options: Options) -> str:
        """Describe the spec on one line: ``8 GPUs, driver 550.163.01``."""
