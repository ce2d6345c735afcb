# SPDX-License-Identifier: Apache-2.0
"""The formula of the number of series, as ``docs/metrics.md`` has it."""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen.metrics.catalogue import EVENT, GPU, LINK, clock_events, default_selection

OF_CONTAINER, OF_USE, OF_HOST, OF_XID, ALWAYS = 1, 7, 3, 2, 9


class Coefficients(NamedTuple):
    """Series of each GPU, GPU instance and NVLink."""

    gpu: int
    instance: int
    link: int


def coefficients(set_names: tuple[str, ...]) -> Coefficients:
    """Return the largest numbers for sets of names."""
    selected = [item.field for item in default_selection(set_names).fields]
    events = len(clock_events())
    # Clock events: active now, in total and recent. Also: up, time-outs, no recent Xid.
    of_events = 3 * events + 3
    assert sum(field.entity == EVENT for field in selected) == 4
    return Coefficients(
        gpu=sum(field.entity == GPU for field in selected) + of_events,
        instance=sum(field.entity == GPU and field.mig for field in selected) + 1,
        link=sum(field.entity == LINK for field in selected),
    )


class Host(NamedTuple):
    """What the number of series depends on."""

    gpus: int
    instances: int = 0
    links: int = 0
    containers: int = 0
    uses: int = 0
    host_uses: int = 0
    xids: int = 0


def series(host: Host, set_names: tuple[str, ...]) -> int:
    """Return the largest number of series of a host."""
    of_device = coefficients(set_names)
    return (
        of_device.gpu * host.gpus
        + of_device.instance * host.instances
        + of_device.link * host.links
        + OF_CONTAINER * host.containers
        + OF_USE * host.uses
        + OF_HOST * host.host_uses
        + OF_XID * host.xids
        + ALWAYS
    )
