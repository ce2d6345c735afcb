# SPDX-License-Identifier: Apache-2.0
"""The data model of a CDI spec: frozen, hashable dataclasses.

Field names are those of the standard, in snake_case, in the standard's order, which is also the
order in which they are written. ``None`` and ``""`` mean that the document does not have the
field; the number ``0`` is a value and is written.

See https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdi_gen.values import Value

Annotations = tuple[tuple[str, str], ...]
"""Key and value of each annotation, in the order of the document (a dict is not hashable)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DeviceNode(Value):
    """A device node that the container gets.

    If ``type`` and ``major`` are given, engines create the node even if the host does not have it
    at that moment. Otherwise the container does not start while the host's node is missing.
    """

    path: str
    """The path in the container."""
    host_path: str = ""
    """The path on the host, if it differs from ``path``. Needs CDI 0.5.0."""
    type: str = ""
    """``b``, ``c``, ``u`` (unbuffered character) or ``p`` (FIFO)."""
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    """Permission bits: 0o666 is 438 in the document."""
    permissions: str = ""
    """Permissions of the devices cgroup: letters of ``rwm``, or ``none``."""
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class NetDevice(Value):
    """A network interface that moves from the host into the container. Needs CDI 1.1.0."""

    host_interface_name: str
    name: str
    """The interface's name in the container."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Hook(Value):
    """A program that the OCI runtime runs at one point of a container's life."""

    hook_name: str
    """``prestart``, ``createRuntime``, ``createContainer``, ``startContainer``, ``poststart`` or
    ``poststop``, as in the OCI runtime specification."""
    path: str
    """The path on the host, absolute: runc refuses a relative path."""
    args: tuple[str, ...] = ()
    """The whole argument vector, ``args[0]`` included."""
    env: tuple[str, ...] = ()
    """``NAME=value``. Must not be empty: runc before 1.3 otherwise passes the environment of the
    *container*, LD_PRELOAD included, to a createContainer hook that runs as root."""
    timeout: int | None = None
    """In seconds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Mount(Value):
    """A mount that the container gets."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    """Must contain ``bind`` or ``rbind``, unless ``type`` is another type of mount."""
    type: str = ""
    """Needs CDI 0.4.0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class IntelRdt(Value):
    """Intel Resource Director Technology, as in the OCI runtime specification. Needs CDI 0.7.0."""

    clos_id: str = ""
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    schemata: tuple[str, ...] = ()
    """Needs CDI 1.1.0."""
    enable_monitoring: bool = False
    """Needs CDI 1.1.0."""
    enable_cmt: bool = False
    """In CDI 0.7.0 to 1.0.0 only."""
    enable_mbm: bool = False
    """In CDI 0.7.0 to 1.0.0 only."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ContainerEdits(Value):
    """The changes to a container; false if there are none."""

    env: tuple[str, ...] = ()
    """``NAME=value``."""
    device_nodes: tuple[DeviceNode, ...] = ()
    net_devices: tuple[NetDevice, ...] = ()
    """Needs CDI 1.1.0."""
    hooks: tuple[Hook, ...] = ()
    mounts: tuple[Mount, ...] = ()
    intel_rdt: IntelRdt | None = None
    """Needs CDI 0.7.0."""
    additional_gids: tuple[int, ...] = ()
    """Supplementary groups of the container's process. Needs CDI 0.7.0."""

    def __or__(self, other: ContainerEdits) -> ContainerEdits:
        """Return both edits in order, without duplicates; the later Intel RDT setting wins.

        Engines combine edits in the same way.
        """
        return ContainerEdits(
            env=tuple(dict.fromkeys(self.env + other.env)),
            device_nodes=tuple(dict.fromkeys(self.device_nodes + other.device_nodes)),
            net_devices=tuple(dict.fromkeys(self.net_devices + other.net_devices)),
            hooks=tuple(dict.fromkeys(self.hooks + other.hooks)),
            mounts=tuple(dict.fromkeys(self.mounts + other.mounts)),
            intel_rdt=self.intel_rdt if other.intel_rdt is None else other.intel_rdt,
            additional_gids=tuple(dict.fromkeys(self.additional_gids + other.additional_gids)),
        )

    def __bool__(self) -> bool:
        return self != _NO_EDITS


_NO_EDITS = ContainerEdits()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Device(Value):
    """A device that can be requested by name."""

    name: str
    annotations: Annotations = ()
    """Needs CDI 0.6.0."""
    container_edits: ContainerEdits = _NO_EDITS
    """Applied to a container that requests the device. Every engine refuses a device without
    edits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Spec(Value):
    """A CDI specification: the devices of one kind."""

    cdi_version: str
    kind: str
    """``vendor.example/class``."""
    annotations: Annotations = ()
    """Needs CDI 0.6.0."""
    devices: tuple[Device, ...] = ()
    container_edits: ContainerEdits = _NO_EDITS
    """Applied once, before the edits of the devices, if a container requests any device of the
    spec."""
