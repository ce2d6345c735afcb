# SPDX-License-Identifier: Apache-2.0
"""A CDI spec as a value: the standard's own terms, frozen, hashable, without behaviour.

Field names are the standard's, in snake_case; the order of the fields is the order in which the
standard lists them, and in which they are written. ``None`` and ``""`` stand for "the document does
not have this field"; a number that is ``0`` is there and is written.

See https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md.
"""

from __future__ import annotations

from dataclasses import dataclass

Annotations = tuple[tuple[str, str], ...]
"""Key and value of each annotation, in the order of the document (a dict would not hash)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A device node for the container.

    With ``type`` and ``major`` given, engines make the node even when the host has none at that
    moment; without them, an absent node stops the container from starting.
    """

    path: str
    """In the container."""
    host_path: str = ""
    """On the host, where it differs from ``path``. Needs CDI 0.5.0."""
    type: str = ""
    """``b``, ``c``, ``u`` (unbuffered character) or ``p`` (FIFO)."""
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    """Permission bits: 0o666 is 438 in the document."""
    permissions: str = ""
    """Of the devices cgroup: letters of ``rwm``, or ``none``."""
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetDevice:
    """A network interface that moves from the host into the container. Needs CDI 1.1.0."""

    host_interface_name: str
    name: str
    """In the container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A program that the OCI runtime runs at one point of a container's life."""

    hook_name: str
    """``prestart``, ``createRuntime``, ``createContainer``, ``startContainer``, ``poststart`` or
    ``poststop``, as in the OCI runtime specification."""
    path: str
    """On the host, absolute: runc refuses a relative one."""
    args: tuple[str, ...] = ()
    """The whole argument vector, ``args[0]`` included."""
    env: tuple[str, ...] = ()
    """``NAME=value``. Never leave it empty: runc before 1.3 then hands the environment of the
    *container*, LD_PRELOAD included, to a createContainer hook that runs as root."""
    timeout: int | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mount for the container."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    """``bind`` or ``rbind`` has to be among them unless ``type`` says otherwise."""
    type: str = ""
    """Needs CDI 0.4.0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelRdt:
    """Intel Resource Director Technology, as in the OCI runtime specification. Needs CDI 0.7.0."""

    clos_id: str = ""
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    schemata: tuple[str, ...] = ()
    """Needs CDI 1.1.0."""
    enable_monitoring: bool = False
    """Needs CDI 1.1.0."""
    enable_cmt: bool = False
    """Of CDI 0.7.0 to 1.0.0 alone, as ``enable_mbm``."""
    enable_mbm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEdits:
    """What is changed in a container; false when nothing is."""

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
        """Both, in order, each edit once; of two Intel RDT settings the later, as engines do."""
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
        return self != _NOTHING


_NOTHING = ContainerEdits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device that can be asked for by name."""

    name: str
    annotations: Annotations = ()
    """Needs CDI 0.6.0."""
    container_edits: ContainerEdits = _NOTHING
    """Applied when this device is asked for. A device without edits is refused by every engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A CDI specification: the devices of one kind."""

    cdi_version: str
    kind: str
    """``vendor.example/class``."""
    annotations: Annotations = ()
    """Needs CDI 0.6.0."""
    devices: tuple[Device, ...] = ()
    container_edits: ContainerEdits = _NOTHING
    """Applied once, before the devices', when any device of this spec is asked for."""
