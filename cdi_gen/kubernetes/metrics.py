# SPDX-License-Identifier: Apache-2.0
"""Metrics of the device plugin for Prometheus, at ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from cdi_gen.kubernetes.health.judge import Change

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
"""Seconds. An answer takes some tenths of a millisecond; the kubelet waits for 10 s at most."""


class Metrics:
    """Counts what happens; it is an observer of the supervisor."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._devices = Gauge(
            "cdi_gen_devices",
            "Devices that are advertised to the kubelet.",
            ("resource", "health"),
            registry=self.registry,
        )
        self._registrations = Counter(
            "cdi_gen_registrations",
            "Registrations that the kubelet accepted.",
            ("resource",),
            registry=self.registry,
        )
        self._answers = Histogram(
            "cdi_gen_answer_seconds",
            "Time of an answer to the kubelet.",
            ("resource", "method"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._failures = Counter(
            "cdi_gen_failed_answers",
            "Requests of the kubelet that were refused.",
            ("resource", "method"),
            registry=self.registry,
        )
        self._changes = Counter(
            "cdi_gen_health_changes",
            "Devices that became usable or unusable, by the code of the reason.",
            ("device", "health", "code"),
            registry=self.registry,
        )

    def serve(self, address: str, port: int) -> None:
        """Serve the metrics from a thread.

        Raises:
            OSError: the port is taken or may not be used.
        """
        start_http_server(port, address, registry=self.registry)

    def devices(self, resource: str, healthy: int, unhealthy: int) -> None:
        """Set the numbers of devices of a resource."""
        self._devices.labels(resource, "healthy").set(healthy)
        self._devices.labels(resource, "unhealthy").set(unhealthy)

    def registered(self, resource: str) -> None:
        """Count a registration."""
        self._registrations.labels(resource).inc()

    def answered(self, resource: str, method: str, seconds: float, *, failed: bool) -> None:
        """Observe the time of an answer, and count a refusal."""
        self._answers.labels(resource, method).observe(seconds)
        if failed:
            self._failures.labels(resource, method).inc()

    def health_changed(self, change: Change) -> None:
        """Count a change of the health of a device."""
        health = "healthy" if change.healthy else "unhealthy"
        self._changes.labels(change.uuid, health, change.finding.code).inc()
