# SPDX-License-Identifier: Apache-2.0
"""What the plugin reports about itself; metrics count it."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Is told what happens. Calls come from several threads."""

    def devices(self, resource: str, healthy: int, unhealthy: int) -> None:
        """Report the devices of a resource; 0 and 0 if the resource is no longer advertised."""

    def registered(self, resource: str) -> None:
        """Report that the kubelet accepted a registration."""

    def answered(self, resource: str, method: str, seconds: float, *, failed: bool) -> None:
        """Report an answer to the kubelet."""

    def health_changed(self, uuid: str, *, healthy: bool, code: str) -> None:
        """Report that a device became usable or unusable, with the code of the reason."""


class Silent:
    """An observer that does nothing."""

    def devices(self, resource: str, healthy: int, unhealthy: int) -> None:
        """Ignore the report."""

    def registered(self, resource: str) -> None:
        """Ignore the report."""

    def answered(self, resource: str, method: str, seconds: float, *, failed: bool) -> None:
        """Ignore the report."""

    def health_changed(self, uuid: str, *, healthy: bool, code: str) -> None:
        """Ignore the report."""
