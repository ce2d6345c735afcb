# SPDX-License-Identifier: Apache-2.0
"""Makes families of samples from a snapshot; pure.

Four kinds: those of dcgm-exporter, for devices; ``cdi_gen_container_*`` and ``cdi_gen_host_*``,
for what containers and processes of the host do with devices; ``cdi_gen_gpu_*``, for what
dcgm-exporter has no field for; ``cdi_gen_metrics_*``, about the measurement. What is not known
gives no sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cdi_gen.metrics import labels
from cdi_gen.metrics.catalogue import OLD, Selection, clock_events, default_selection, groups
from cdi_gen.metrics.device_families import CountedEvents, device_families
from cdi_gen.metrics.devices import Uses, container_key, select_uses
from cdi_gen.metrics.events import WINDOW, Totals, totals
from cdi_gen.metrics.exposition import COUNTER, GAUGE, INFO, Family
from cdi_gen.metrics.snapshot import ContainerUse, Snapshot
from cdi_gen.telemetry.groups import PROCESSES, Groups
from cdi_gen.telemetry.model import GpuReading, MigReading

MAX_CONTAINERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a snapshot is presented."""

    names: tuple[str, ...] = (OLD,)
    """The sets of names: ``old``, ``new`` or both."""
    selection: Selection | None = None
    """The fields; None: those that are shown by default."""
    hostname: str = ""
    """The value of the label of the host's name; empty: no label."""
    per_container: bool = False
    """A sample for each container that has a device, as dcgm-exporter makes with
    KUBERNETES_VIRTUAL_GPUS, and not one for the device."""
    max_containers: int = MAX_CONTAINERS
    """How many containers have samples: those that started first."""

    def selected(self) -> Selection:
        """Return the fields that are shown."""
        return self.selection or default_selection(self.names)

    def measured_groups(self) -> Groups:
        """Return what has to be measured."""
        return groups(self.selected()) | {PROCESSES}


def families(
    snapshot: Snapshot, options: Options | None = None, recent: Totals | None = None
) -> tuple[Family, ...]:
    """Return all families of a snapshot; some may have no samples.

    Args:
        snapshot: what is presented.
        options: how.
        recent: the events of the last minutes, from `cdi_gen.metrics.events.RecentEvents`; None:
            they are not shown.
    """
    options = options or Options()
    uses = select_uses(snapshot, options.max_containers)
    made = [
        *device_families(
            snapshot,
            uses,
            options.selected(),
            CountedEvents(totals(snapshot.reading), recent, WINDOW),
            hostname=options.hostname,
            is_per_container=options.per_container,
        ),
        *_gpu_families(snapshot),
        *_container_families(snapshot, uses),
        *_host_families(snapshot),
        *_measurement_families(snapshot, uses),
    ]
    dropped = Family(
        "cdi_gen_metrics_dropped_samples",
        GAUGE,
        "Samples that were left out because of equal labels or an impossible value.",
    )
    dropped.add("", sum(family.dropped for family in made))
    return (*made, dropped)


def _identities(snapshot: Snapshot) -> Mapping[str, str]:
    """Return the labels of each GPU and MIG device in families of cdi-gen, by its index."""
    devices: list[tuple[str, GpuReading, MigReading | None]] = []
    for gpu in snapshot.reading.gpus:
        devices.append((gpu.index, gpu, None))
        devices += [(device.index, gpu, device) for device in gpu.mig]
    return {
        index: labels.text(labels.identity_pairs(gpu, device)) for index, gpu, device in devices
    }


def _gpu_families(snapshot: Snapshot) -> Iterator[Family]:
    """Yield what dcgm-exporter has no field for."""
    active = Family(
        "cdi_gen_gpu_clock_event_active",
        GAUGE,
        "Whether the clocks are lowered for a reason now: 0 or 1.",
    )
    for gpu in snapshot.reading.gpus:
        if "clocks_event_reasons" not in gpu.quantities:
            continue
        identity = labels.text(labels.identity_pairs(gpu))
        for event in clock_events():
            active.add(
                labels.joined(identity, labels.text([("clock_event", event)])),
                event in gpu.clock_events,
            )
    yield active


_CONTAINER_VALUES = (
    ("processes", "processes", "Processes of the container that use the device."),
    ("memory", "memory_used_bytes", "GPU memory of the container's processes."),
    ("utilization", "utilization_ratio", "Share of the time in which its kernels ran, 0 to 1."),
    (
        "memory_utilization",
        "memory_utilization_ratio",
        "Share of the time in which it read or wrote the memory, 0 to 1.",
    ),
    (
        "encoder_utilization",
        "encoder_utilization_ratio",
        "Share of the video encoder that it used, 0 to 1.",
    ),
    (
        "decoder_utilization",
        "decoder_utilization_ratio",
        "Share of the video decoder that it used, 0 to 1.",
    ),
)
"""Attributes of `ContainerUse`, the ends of the names, and the help."""


def _container_families(snapshot: Snapshot, uses: Uses) -> Iterator[Family]:
    info = Family("cdi_gen_container_info", INFO, "A container that has a GPU, and its image.")
    texts: dict[tuple[int, int], str] = {}
    for container in uses.containers:
        pairs = labels.container_pairs(container)
        texts[container_key(container)] = labels.text(pairs)
        info.add(labels.text([*pairs, ("image", container.origin.image)]), 1)
    yield info
    devices = _identities(snapshot)
    samples: list[tuple[str, ContainerUse]] = [
        (labels.joined(texts[container_key(use.holder.container)], devices[index]), use)
        for index, of_device in uses.by_device.items()
        for use in of_device
    ]
    held = Family("cdi_gen_container_gpu_held", GAUGE, "A device that a container can use: 1.")
    for text, _ in samples:
        held.add(text, 1)
    yield held
    for attribute, end, help_text in _CONTAINER_VALUES:
        family = Family(f"cdi_gen_container_gpu_{end}", GAUGE, help_text)
        for text, use in samples:
            value = getattr(use, attribute)
            if value is not None:
                family.add(text, value)
        yield family


_HOST_VALUES = (
    ("processes", "processes", "Processes that are in no container and use the device."),
    ("memory", "memory_used_bytes", "GPU memory of processes that are in no container."),
    (
        "utilization",
        "utilization_ratio",
        "Share of the time in which kernels of processes in no container ran, 0 to 1.",
    ),
)
"""Attributes of `HostUse`, the ends of the names, and the help."""


def _host_families(snapshot: Snapshot) -> Iterator[Family]:
    devices = _identities(snapshot)
    for attribute, end, help_text in _HOST_VALUES:
        family = Family(f"cdi_gen_host_gpu_{end}", GAUGE, help_text)
        for use in snapshot.host_uses:
            value = getattr(use, attribute)
            if value is not None and use.device in devices:
                family.add(devices[use.device], value)
        yield family


def _measurement_families(snapshot: Snapshot, uses: Uses) -> Iterator[Family]:
    reading = snapshot.reading
    gauges = (
        ("up", not reading.error, "Whether NVML can be used: 0 or 1."),
        ("pass_seconds", reading.seconds, "Duration of the last pass over NVML."),
        ("snapshot_timestamp_seconds", reading.time, "Time of the last pass."),
        ("containers", snapshot.containers, "Running containers, with or without GPUs."),
        ("shown_containers", len(uses.containers), "Containers with GPUs that have samples."),
        ("omitted_containers", uses.omitted, "Containers with GPUs beyond --max-containers."),
        ("omitted_uses", uses.omitted_uses, "Devices of containers beyond the limit of samples."),
        ("unseen", len(snapshot.unseen), "Reasons for which containers could not be seen."),
    )
    for end, value, help_text in gauges:
        family = Family(f"cdi_gen_metrics_{end}", GAUGE, help_text)
        family.add("", value)
        yield family
    usable = Family(
        "cdi_gen_metrics_gpu_up",
        GAUGE,
        "Whether the GPU could be measured in the last pass: 0 or 1.",
    )
    timeouts = Family(
        "cdi_gen_metrics_gpu_timeouts_total", COUNTER, "How often the GPU did not answer in time."
    )
    for gpu in reading.gpus:
        identity = labels.text(labels.identity_pairs(gpu))
        usable.add(identity, not gpu.fault)
        timeouts.add(identity, gpu.timeouts)
    yield usable
    yield timeouts
