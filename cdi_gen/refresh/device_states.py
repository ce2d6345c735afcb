# SPDX-License-Identifier: Apache-2.0
"""Counts the GPUs and MIG devices of specs and host by their state. It does no I/O.

Names with the same nodes are one device: the index, the UUID and the PCI address of a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdi_gen.cdi.model import Device
from cdi_gen.refresh import effective_specs, staleness
from cdi_gen.refresh.effective_specs import EffectiveSpec, EffectiveSpecs
from cdi_gen.refresh.host_facts import HostFacts, capability_minor, gpu_minor
from cdi_gen.store import Registry

STATES = {
    "usable": "engines resolve a name to it, and the host has all that its spec names",
    "stale": "engines resolve a name to it, but the host has not all that its spec names",
    "conflicting": "engines resolve no name to it: two files of a directory define it",
    "missing": "the host has it, and no spec",
    "left-out": "the last refresh left it out as unusable",
}
"""The states, and what they mean."""

NO_DEVICE = "CDG-V109"

_Nodes = frozenset[str]


def count(registry: Registry, host: HostFacts, left_out: Sequence[str] = ()) -> dict[str, int]:
    """Return the number of devices in each state.

    Args:
        registry: the spec directories.
        host: the facts of the host, read for `EffectiveSpec.host_paths` of the specs.
        left_out: devices that our refresh left out as unusable.
    """
    specs = effective_specs.of(registry).specs
    is_stale: dict[_Nodes, bool] = {}
    for spec, device, nodes in _of_gpus(specs):
        has_fault = any(
            difference.code != NO_DEVICE
            for difference in staleness.differences(_only(spec, device), host)
        )
        is_stale[nodes] = is_stale.get(nodes, False) or has_fault
    conflicting = _conflicting(registry)
    unresolved = {nodes for _, _, nodes in _of_gpus(conflicting)} - is_stale.keys()
    stale = sum(is_stale.values())
    numbers = {
        "usable": len(is_stale) - stale,
        "stale": stale,
        "conflicting": len(unresolved),
        "missing": _missing((*specs, *conflicting), host, left_out),
        "left-out": len(left_out),
    }
    return {state: numbers[state] for state in STATES}


def _of_gpus(specs: Sequence[EffectiveSpec]) -> Iterator[tuple[EffectiveSpec, Device, _Nodes]]:
    """Yield the devices of a single GPU or MIG device, with the nodes that identify it."""
    for spec in specs:
        for device in spec.devices:
            paths = [node.path for node in device.container_edits.device_nodes]
            gpus = {path for path in paths if gpu_minor(path) is not None}
            instances = {path for path in paths if capability_minor(path) is not None}
            # `all` of a host with one GPU has the nodes of that GPU.
            if len(gpus) == 1 and len(instances) in {0, 2}:
                yield spec, device, frozenset(gpus | instances)


def _only(spec: EffectiveSpec, device: Device) -> EffectiveSpecs:
    return EffectiveSpecs((spec._replace(devices=(device,)),), (), (), ())


def _conflicting(registry: Registry) -> tuple[EffectiveSpec, ...]:
    """Return the devices of conflicting files that engines cannot resolve."""
    names = {
        resolution.name
        for resolution in registry.devices
        if resolution.file is None and effective_specs.is_of_nvidia(resolution.name)
    }
    return tuple(
        EffectiveSpec(file.path, file.spec, devices)
        for file in registry.files
        if file.spec is not None
        and (
            devices := tuple(
                device for device in file.spec.devices if f"{file.spec.kind}={device.name}" in names
            )
        )
    )


def _missing(specs: Sequence[EffectiveSpec], host: HostFacts, left_out: Sequence[str]) -> int:
    if host.driver_version is None:
        return 0
    if not specs:
        return len(host.gpus)
    differences = staleness.differences(EffectiveSpecs(tuple(specs), (), (), ()), host, left_out)
    return sum(difference.code == NO_DEVICE for difference in differences)
