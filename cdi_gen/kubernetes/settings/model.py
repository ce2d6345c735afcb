# SPDX-License-Identifier: Apache-2.0
"""The settings of the device plugin as values, with the words of NVIDIA's config file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cdi_base.cdi import SPEC_DIRECTORIES

MigStrategy = Literal["none", "single", "mixed"]
IdStrategy = Literal["uuid", "index"]
SharingStrategy = Literal["none", "time-slicing", "mps"]
AllocationPolicy = Literal["distributed", "packed"]

MIG_STRATEGIES: tuple[MigStrategy, ...] = ("none", "single", "mixed")
ID_STRATEGIES: tuple[IdStrategy, ...] = ("uuid", "index")
ALLOCATION_POLICIES: tuple[AllocationPolicy, ...] = ("distributed", "packed")

CDI_CRI = "cdi-cri"
CDI_ANNOTATIONS = "cdi-annotations"
ENVVAR = "envvar"
VOLUME_MOUNTS = "volume-mounts"
LIST_STRATEGIES = (ENVVAR, VOLUME_MOUNTS, CDI_ANNOTATIONS, CDI_CRI)
"""Ways to tell the container runtime which devices a container gets."""

DISCOVERY_STRATEGIES = ("auto", "nvml", "tegra")
LABEL_DISCOVERY_STRATEGIES = (*DISCOVERY_STRATEGIES, "vfio")
"""How labels find GPUs; ``vfio``: those that are passed through to virtual machines."""

ALL_DEVICES: Literal["all"] = "all"

DEVICE_PLUGINS = "/var/lib/kubelet/device-plugins"
"""The kubelet's directory for sockets; it is fixed in the kubelet."""

PREFIX = "nvidia.com/"
"""The prefix of a resource name that is written without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRule:
    """``resources.gpus[]`` or ``resources.mig[]``: the resource of the devices that match."""

    pattern: str
    """A pattern with ``*`` for a part of the model of a GPU, or for the profile of a MIG device."""
    name: str
    """The name of the resource with its prefix: ``nvidia.com/gpu``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedResource:
    """``sharing.*.resources[]``: the devices of a resource that several containers share."""

    name: str
    """The name of the resource with its prefix."""
    rename: str | None = None
    """The name under which the shared devices are advertised; None: see `Sharing.rename`."""
    devices: tuple[str, ...] | int | Literal["all"] = ALL_DEVICES
    """All devices, the first so many, or those with these UUIDs or indices (``0``, ``0:1``)."""
    replicas: int
    """How many containers share a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """``sharing.timeSlicing`` or ``sharing.mps``."""

    strategy: SharingStrategy = "none"
    rename_by_default: bool = False
    fail_requests_greater_than_one: bool = False
    resources: tuple[SharedResource, ...] = ()

    def is_shared(self, shared: SharedResource) -> bool:
        """Whether devices are shared: those with one replica are not, except by MPS.

        With MPS the processes of the one container compute at the same time.
        """
        return shared.replicas > 1 or self.strategy == "mps"

    def advertised_name(self, shared: SharedResource) -> str:
        """Return the name under which the devices are advertised."""
        if shared.rename is not None:
            return shared.rename
        renamed = self.rename_by_default and self.is_shared(shared)
        return f"{shared.name}.shared" if renamed else shared.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Imex:
    """``imex``: the IMEX channels that every container gets."""

    channel_ids: tuple[int, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the device plugin was told. The defaults are those of the command line."""

    mig_strategy: MigStrategy = "none"
    fail_on_init_error: bool = False
    """End if the host cannot be examined at the start. NVIDIA's plugin does so by default; here the
    plugin waits, because a driver is often loaded later than the plugin starts."""
    driver_root: str = "/"
    dev_root: str | None = None
    container_driver_root: str = "/driver-root"
    discovery_strategy: str = "auto"
    pass_device_specs: bool = False
    list_strategies: tuple[str, ...] = (CDI_CRI,)
    id_strategy: IdStrategy = "uuid"
    cdi_annotation_prefix: str = "cdi.k8s.io/"
    cdi_root: str = SPEC_DIRECTORIES[-1]
    hook_path: str | None = None
    disabled_hooks: tuple[str, ...] = ()
    gds: bool = False
    mofed: bool = False
    gdrcopy: bool = False
    allocation_policy: AllocationPolicy = "distributed"
    mps_root: str = "/run/nvidia/mps"
    """The directory of the MPS control daemons on the host."""
    kubelet_socket: str = f"{DEVICE_PLUGINS}/kubelet.sock"
    """Empty: serve in `DEVICE_PLUGINS`, and do not register."""
    gpu_rules: tuple[ResourceRule, ...] = field(
        default=(ResourceRule(pattern="*", name=f"{PREFIX}gpu"),)
    )
    mig_rules: tuple[ResourceRule, ...] = ()
    """Rules for MIG devices; the profile's own resource if no rule matches."""
    sharing: Sharing = Sharing()
    imex: Imex = Imex()

    @property
    def cdi(self) -> bool:
        """Whether containers get their devices by CDI names."""
        return not {CDI_CRI, CDI_ANNOTATIONS}.isdisjoint(self.list_strategies)

    @property
    def passes_nodes(self) -> bool:
        """Whether the kubelet passes device nodes to the runtime.

        CDI specs have the nodes: with CDI alone, NVIDIA's plugin ignores the flag as well. The GPU
        Operator sets it with both CDI strategies.
        """
        return self.pass_device_specs and not {ENVVAR, VOLUME_MOUNTS}.isdisjoint(
            self.list_strategies
        )

    @property
    def transports(self) -> tuple[str, ...]:
        """The transports that every container gets: ``gdrcopy``, ``gds``, ``mofed``."""
        enabled = {"gdrcopy": self.gdrcopy, "gds": self.gds, "mofed": self.mofed}
        return tuple(name for name, value in enabled.items() if value)


DEFAULTS = Settings()
