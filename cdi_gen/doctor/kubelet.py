# SPDX-License-Identifier: Apache-2.0
"""What the kubelet knows of devices: its directory, and the file in which it keeps assignments."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from cdi_gen.doctor.check import NotApplicable, Unseen
from cdi_gen.doctor.host import Host
from cdi_gen.host.kubelet_directories import DIRECTORIES
from cdi_gen.paths import join

CHECKPOINT = "kubelet_internal_checkpoint"
MAX_BYTES = 64 << 20

ANNOTATIONS, CDI_DEVICES = 4, 5
"""The numbers of fields in ContainerAllocateResponse (deviceplugin/v1beta1)."""
CDI_ANNOTATION = b"cdi.k8s.io/"


class Allocation(NamedTuple):
    """How a device plugin gave devices to a container."""

    resource: str
    by_annotation: bool
    by_field: bool
    """By CDI devices of the CRI."""


class Checkpoint(NamedTuple):
    """The devices that the kubelet knows."""

    registered: dict[str, frozenset[str]]
    """The healthy devices of each resource."""
    allocations: tuple[Allocation, ...]


def directory(host: Host) -> str:
    """Return the directory of device plugins.

    Raises:
        NotApplicable: the host is no node of a cluster.
    """
    for path in DIRECTORIES:
        plugins = join(path, "device-plugins")
        if host.exists(plugins):
            return plugins
    raise NotApplicable("the host is no node of a Kubernetes cluster")


def sockets(host: Host) -> tuple[str, ...]:
    """Return the names of the sockets of device plugins.

    Raises:
        NotApplicable: as `directory`.
        Unseen: this user may not read the directory.
    """
    names = host.entries(directory(host)) or ()
    return tuple(name for name in names if name.endswith(".sock") and name != "kubelet.sock")


def checkpoint(host: Host) -> Checkpoint:
    """Return what the kubelet has stored.

    Raises:
        NotApplicable: the host is no node, or no device plugin has registered.
        Unseen: this user may not read the file.
    """
    path = join(directory(host), CHECKPOINT)
    summary = host.fact("kubelet checkpoint", lambda: _summary(host, path), path)
    if summary is None:
        raise NotApplicable("the kubelet knows no device")
    return Checkpoint(
        {resource: frozenset(ids) for resource, ids in summary["registered"].items()},
        tuple(Allocation(*fields) for fields in summary["allocations"]),
    )


def _summary(host: Host, path: str) -> dict[str, Any] | None:
    """Return resources and kinds of allocations only: a report names no pod."""
    try:
        data = json.loads(host.root.read_bytes(path, MAX_BYTES))["Data"]
        registered = data["RegisteredDevices"] or {}
        entries = data["PodDeviceEntries"] or []
        return {
            "registered": {
                str(name): sorted(map(str, ids or ())) for name, ids in registered.items()
            },
            "allocations": [
                [str(entry["ResourceName"]), *_ways(base64.b64decode(entry["AllocResp"] or ""))]
                for entry in entries
            ],
        }
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unseen(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unseen(f"{path} is not a checkpoint of a kubelet") from error


def _ways(response: bytes) -> tuple[bool, bool]:
    fields = [*_fields(response)]
    return (
        any(number == ANNOTATIONS and CDI_ANNOTATION in content for number, content in fields),
        any(number == CDI_DEVICES for number, _ in fields),
    )


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the fields with a length; the message has no others."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        length, at = _number(message, at)
        if key & 7 != 2:
            return
        yield key >> 3, message[at : at + length]
        at += length


def _number(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length (base 128), and the position after it."""
    value = shift = 0
    while at < len(message) and shift < 64:
        value |= (message[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not message[at - 1] & 0x80:
            break
    return value, at
