# SPDX-License-Identifier: Apache-2.0
"""Answers Allocate: what a container gets for the device ids that the kubelet chose.

Every enabled strategy adds its part: CDI names for the runtime, annotations for kubelets before
1.29, variables and mounts for NVIDIA's runtime and our shim, device nodes for plain runtimes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import uuid4

from cdi_base.nvidia import cdi_name
from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes.resources import mps
from cdi_gen.kubernetes.resources.device import Device, Resource, device_name
from cdi_gen.kubernetes.settings.model import (
    CDI_ANNOTATIONS,
    CDI_CRI,
    ENVVAR,
    VOLUME_MOUNTS,
    Settings,
)

CDI_VENDOR = "k8s.device-plugin.nvidia.com"
"""The vendor of the specs that the plugin writes, as in NVIDIA's plugin."""

VOLUME_MOUNT_ROOT = "/var/run/nvidia-container-devices"
VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"

SHARING_STRATEGY = "NVIDIA_GPU_SHARING_STRATEGY"
REPLICAS = "NVIDIA_GPU_REPLICAS"
"""Variables of a container whose devices are shared, with the values of the node's labels
``nvidia.com/gpu.sharing-strategy`` and ``nvidia.com/gpu.replicas``."""

CONTROL_NODES = (
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
)


IMEX_CHANNELS = "/dev/nvidia-caps-imex-channels/channel"


class AllocationError(CdiGenError):
    """A request for devices that cannot be granted; the kubelet shows the message in the pod."""

    code = "CDG-N201"


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount of the container."""

    host_path: str
    container_path: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What one container gets."""

    envs: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    nodes: tuple[tuple[str, str], ...] = ()
    """Device nodes: (path on the host, path in the container)."""
    cdi_devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What allocations need to know of the host beside the devices."""

    control_nodes: tuple[str, ...] = ()
    """Paths of the driver's control nodes that the host has."""
    imex_channels: tuple[int, ...] = ()
    """The IMEX channels that containers get: those of the settings that the host has."""
    cdi_transports: tuple[str, ...] = ()
    """The transports with devices on this host, of ``gdrcopy``, ``gds`` and ``mofed``."""


def imex_channels(inventory: Inventory, settings: Settings) -> tuple[int, ...]:
    """Return the channels of the settings that the host has.

    Raises:
        CdiGenError: one is missing, and the settings require it.
    """
    paths = {node.path for node in inventory.transport_nodes if node.present}
    channels = settings.imex.channel_ids
    present = tuple(channel for channel in channels if f"{IMEX_CHANNELS}{channel}" in paths)
    if settings.imex.required and present != channels:
        raise CdiGenError(
            "the host lacks the IMEX channel that every container must get",
            hint="start nvidia-imex, or unset imex.required",
            code="CDG-N111",
            subject=IMEX_CHANNELS,
        )
    return present


def allocate(
    identifiers: Iterable[str],
    resource: Resource,
    settings: Settings,
    node: Node,
    request_id: Callable[[], object] = uuid4,
) -> Allocation:
    """Return what a container gets for these device ids.

    Args:
        identifiers: the ids that the kubelet chose.
        resource: the resource that is asked for.
        settings: the plugin's settings.
        node: the rest of what the host has.
        request_id: gives the unique part of an annotation's key.

    Raises:
        AllocationError: an id is not one of the resource's, or the request is for several shared
            devices and the settings forbid that.
    """
    devices = _requested(tuple(identifiers), resource)
    names = [_name(device, settings) for device in devices]
    envs: dict[str, str] = {}
    mounts: list[Mount] = []
    channels = [str(channel) for channel in node.imex_channels]
    if ENVVAR in settings.list_strategies:
        envs[VISIBLE_DEVICES] = ",".join(names)
        if channels:
            envs["NVIDIA_IMEX_CHANNELS"] = ",".join(channels)
    if VOLUME_MOUNTS in settings.list_strategies:
        envs[VISIBLE_DEVICES] = VOLUME_MOUNT_ROOT
        mounts += [_request_mount(name) for name in names]
        mounts += [_request_mount(f"imex/{channel}") for channel in channels]
    envs |= {f"NVIDIA_{name.upper()}": "enabled" for name in settings.transports}
    shared = [device for device in devices if device.replica is not None]
    if shared:
        envs[SHARING_STRATEGY] = resource.sharing
        envs[REPLICAS] = str(max(device.replicas for device in shared))
    if shared and resource.sharing == "mps":
        envs |= mps.environment(shared, resource)
        mounts.append(_mps_mount(shared, resource, settings))
    cdi_devices = tuple(_cdi_names(names, settings, node)) if settings.cdi else ()
    annotations = {}
    if CDI_ANNOTATIONS in settings.list_strategies:
        key = f"{settings.cdi_annotation_prefix}nvidia-device-plugin_{request_id()}"
        annotations[key] = ",".join(cdi_devices)
    return Allocation(
        envs=envs,
        annotations=annotations,
        mounts=tuple(mounts),
        nodes=tuple(_nodes(devices, settings, node)) if settings.passes_nodes else (),
        cdi_devices=cdi_devices if CDI_CRI in settings.list_strategies else (),
    )


def _requested(identifiers: tuple[str, ...], resource: Resource) -> list[Device]:
    """Return the devices of the ids in the order of the request, each device once."""
    by_id = resource.by_id
    for identifier in identifiers:
        if identifier not in by_id:
            raise AllocationError(
                f"{resource.name} has no device {identifier!r}",
                subject=identifier,
                hint="the devices of the node have changed; the pod has to be created again",
            )
    shared = [identifier for identifier in identifiers if by_id[identifier].replica is not None]
    if resource.fail_requests_greater_than_one and len(identifiers) > 1 and shared:
        raise AllocationError(
            f"a container may request one {resource.name} and requests {len(identifiers)}: the "
            "devices are shared, and more than one would not give it more of a GPU",
            subject=resource.name,
            hint="request 1, or set sharing.*.failRequestsGreaterThanOne to false",
            code="CDG-N202",
        )
    if resource.sharing == "mps" and shared and len(shared) < len(identifiers):
        raise AllocationError(
            f"a container requests shared and whole devices of {resource.name}: a client of MPS "
            "uses no other GPU",
            subject=resource.name,
            hint="give the shared devices another name, with renameByDefault or rename",
            code="CDG-N202",
        )
    unique = {device_name(identifier): by_id[identifier] for identifier in identifiers}
    return list(unique.values())


def _name(device: Device, settings: Settings) -> str:
    return device.index if settings.id_strategy == "index" else cdi_name(device.uuid)


def _request_mount(name: str) -> Mount:
    return Mount("/dev/null", f"{VOLUME_MOUNT_ROOT}/{name}", read_only=False)


def _mps_mount(shared: list[Device], resource: Resource, settings: Settings) -> Mount:
    """Return the mount of the directory with the daemon's socket.

    NVIDIA's plugin mounts the whole pipe directory, by which root in a container can end the
    daemon, and shared memory, which clients of driver 580 do not need (docs/gpu/kubernetes.md).
    """
    daemon = mps.daemon_name(shared, resource)
    host_path = f"{settings.mps_root}/{daemon}/{mps.CLIENTS}"
    return Mount(host_path, mps.pipe_directory(resource), read_only=True)


def _cdi_names(names: list[str], settings: Settings, node: Node) -> Iterable[str]:
    yield from (f"{CDI_VENDOR}/gpu={name}" for name in names)
    for channel in node.imex_channels:
        yield f"{CDI_VENDOR}/imex-channel={channel}"
    for transport in settings.transports:
        if transport in node.cdi_transports:
            yield f"{CDI_VENDOR}/{transport}=all"


def _nodes(devices: list[Device], settings: Settings, node: Node) -> Iterable[tuple[str, str]]:
    """Yield the control nodes that the host has, then those of devices and channels, each once."""
    root = (settings.dev_root or settings.driver_root).rstrip("/")
    paths = [path for path in CONTROL_NODES if path in node.control_nodes]
    paths += [path for device in devices for path in device.paths]
    paths += [f"{IMEX_CHANNELS}{channel}" for channel in node.imex_channels]
    yield from ((f"{root}{path}", path) for path in dict.fromkeys(paths))
