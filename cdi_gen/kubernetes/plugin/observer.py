# SPDX-License-Identifier: Apache-2.0
"""What the plugin reports about itself; metrics count it."""

from __future__ import annotations

from typing import Protocol

from cdi_gen.kubernetes.health.judge import Change


class Observer(Protocol):
    """Is told what happens. Calls come from several threads."""

    def devices(self, resource: str, healthy: int, unhealthy: int) -> None:
        """Report the devices of a resource; 0 and 0 if the resource is no longer advertised."""

    def registered(self, resource: str) -> None:
        """Report that the kubelet accepted a registration."""

    def answered(self, resource: str, method: str, seconds: float, *, failed: bool) -> None:
        """Report an answer to the kubelet."""

    def health_changed(self, change: Change) -> None:
        """Report that a device became usable or unusable."""


class Observers:
    """Tells several observers what happens; without one it does nothing."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def devices(self, resource: str, healthy: int, unhealthy: int) -> None:
        """Report the devices of a resource."""
        for observer in self._observers:
            observer.devices(resource, healthy, unhealthy)

    def registered(self, resource: str) -> None:
        """Report a registration."""
        for observer in self._observers:
            observer.registered(resource)

    def answered(self, resource: str, method: str, seconds: float, *, failed: bool) -> None:
        """Report an answer."""
        for observer in self._observers:
            observer.answered(resource, method, seconds, failed=failed)

    def health_changed(self, change: Change) -> None:
        """Report a change of the health of a device."""
        for observer in self._observers:
            observer.health_changed(change)
