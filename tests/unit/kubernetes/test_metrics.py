# SPDX-License-Identifier: Apache-2.0
"""The metrics of the device plugin."""

from __future__ import annotations

from prometheus_client import generate_latest

from cdi_base.findings import Finding
from cdi_gen.kubernetes.health.judge import Change
from cdi_gen.kubernetes.metrics import Metrics
from cdi_gen.kubernetes.plugin.observer import Observer


def test_everything_that_happens_is_counted() -> None:
    metrics = Metrics()
    observer: Observer = metrics
    observer.devices("nvidia.com/gpu", 7, 1)
    observer.registered("nvidia.com/gpu")
    observer.answered("nvidia.com/gpu", "Allocate", 0.0003, failed=False)
    observer.answered("nvidia.com/gpu", "Allocate", 0.002, failed=True)
    observer.health_changed(
        Change("GPU-1", healthy=False, finding=Finding("CDG-N203", "error", "Xid 79"))
    )
    lines = generate_latest(metrics.registry).decode().splitlines()
    assert {
        'cdi_gen_devices{health="healthy",resource="nvidia.com/gpu"} 7.0',
        'cdi_gen_devices{health="unhealthy",resource="nvidia.com/gpu"} 1.0',
        'cdi_gen_registrations_total{resource="nvidia.com/gpu"} 1.0',
        'cdi_gen_answer_seconds_count{method="Allocate",resource="nvidia.com/gpu"} 2.0',
        'cdi_gen_answer_seconds_bucket{le="0.0005",method="Allocate",resource="nvidia.com/gpu"} 1.0',
        'cdi_gen_failed_answers_total{method="Allocate",resource="nvidia.com/gpu"} 1.0',
        'cdi_gen_health_changes_total{code="CDG-N203",device="GPU-1",health="unhealthy"} 1.0',
    } <= set(lines)
