# SPDX-License-Identifier: Apache-2.0
"""Labels of samples, as text.

Values come from users: the name of a container may be a megabyte long, or have a line feed and a
sample behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cdi_base.errors import printable
from cdi_gen.containers.model import Container
from cdi_gen.metrics.catalogue import NEW, OLD
from cdi_gen.telemetry.model import GpuReading, LinkReading, MigReading

VALUE_LIMIT = 128
"""Bytes of a value, in UTF-8; dcgm-exporter cuts names of containers at the same length."""

Pair = tuple[str, str]


class Dialect(NamedTuple):
    """The names of labels that dcgm-exporter changed with the names of metrics."""

    hostname: str
    driver_version: str


DIALECTS = {
    OLD: Dialect("Hostname", "DCGM_FI_DRIVER_VERSION"),
    NEW: Dialect("hostname", "DCGM_FI_SYSTEM_DRIVER_VERSION"),
}


def value(text: str) -> str:
    """Return a value that can be printed, of at most `VALUE_LIMIT` bytes."""
    if len(text) > VALUE_LIMIT:
        text = text[:VALUE_LIMIT]
    text = printable(text)
    if text.isascii():
        return text[:VALUE_LIMIT]
    return text.encode()[:VALUE_LIMIT].decode(errors="ignore")


def text(pairs: Iterable[Pair]) -> str:
    """Return labels as they stand between braces; an empty value is no label in Prometheus."""
    return ",".join(f'{name}="{_escaped(value(label))}"' for name, label in pairs if label)


def joined(*texts: str) -> str:
    """Return several texts of labels as one."""
    return ",".join(part for part in texts if part)


def _escaped(label: str) -> str:
    """Escape a value that can be printed: it has no line feed."""
    return label.replace("\\", "\\\\").replace('"', '\\"')


def gpu_pairs(gpu: GpuReading) -> tuple[Pair, ...]:
    """Return dcgm-exporter's labels of a GPU.

    ``device`` has the index and not the minor number, as there.
    """
    return (
        ("gpu", gpu.index),
        ("UUID", gpu.uuid),
        ("pci_bus_id", bus_id(gpu.pci_address)),
        ("device", f"nvidia{gpu.index}"),
        ("modelName", gpu.model),
    )


def link_pairs(gpu: GpuReading, link: LinkReading) -> tuple[Pair, ...]:
    """Return dcgm-exporter's labels of an NVLink of a GPU."""
    return (
        ("nvlink", str(link.number)),
        ("gpu", gpu.index),
        ("gpu_uuid", gpu.uuid),
        ("pci_bus_id", bus_id(gpu.pci_address)),
        ("device", f"nvidia{gpu.index}"),
        ("model_name", gpu.model),
    )


def instance_pairs(device: MigReading) -> tuple[Pair, ...]:
    """Return dcgm-exporter's labels of the GPU instance of a MIG device.

    The profile of ``1c.2g.20gb`` is ``2g.20gb``.
    """
    head, _, tail = device.profile.partition(".")
    profile = tail if head.endswith("c") else device.profile
    return (("GPU_I_PROFILE", profile), ("GPU_I_ID", str(device.gpu_instance)))


def identity_pairs(gpu: GpuReading, device: MigReading | None = None) -> tuple[Pair, ...]:
    """Return the labels of a GPU or MIG device in the families of cdi-gen."""
    pairs: tuple[Pair, ...] = (("gpu", gpu.index), ("UUID", gpu.uuid))
    if device is not None:
        pairs += (*instance_pairs(device), ("mig_uuid", device.uuid))
    return pairs


def bus_id(address: str) -> str:
    """Return a PCI address as NVML and DCGM write it: ``00000000:3B:00.0``."""
    domain, separator, rest = address.partition(":")
    return f"{domain:0>8}{separator}{rest}".upper() if rest.count(":") else address


def workload_pairs(container: Container) -> tuple[Pair, ...]:
    """Return dcgm-exporter's labels of the container that has a GPU."""
    origin = container.origin
    if origin.pod is None:
        return (("container", origin.name or origin.id),)
    pod = origin.pod
    return (("container", pod.container), ("namespace", pod.namespace), ("pod", pod.name))


def container_pairs(container: Container) -> tuple[Pair, ...]:
    """Return the labels of a container in the families of cdi-gen."""
    origin, pod = container.origin, container.origin.pod
    return (
        ("engine", origin.engine),
        ("container_id", origin.id),
        ("name", origin.name),
        *((("namespace", pod.namespace), ("pod", pod.name)) if pod else ()),
        *((("container", pod.container),) if pod else ()),
        ("unit", origin.unit),
        ("user", origin.user),
    )
