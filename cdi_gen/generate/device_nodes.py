# SPDX-License-Identifier: Apache-2.0
"""Edits for one device: its nodes, and what else goes with it."""

from __future__ import annotations

from collections.abc import Iterable

from cdi_gen.cdi import versions
from cdi_gen.cdi.model import ContainerEdits, DeviceNode
from cdi_gen.generate.driver_files import Link
from cdi_gen.generate.options import Options
from cdi_gen.inventory import CharDevice, Gpu, Inventory, MigDevice
from cdi_gen.paths import ContainerPath, base_name, join

HOST_PATH_SINCE = "0.5.0"
"""The CDI version in which a node's path on the host may differ from that in the container."""

PERMISSIONS = "rw"
"""Not ``m``: nothing in a container needs to make these nodes."""

EMPTY = ContainerEdits(env=("NVIDIA_VISIBLE_DEVICES=void",))
"""The standard allows no device without edits; the spec sets this variable anyway."""


class DeviceEdits:
    """Builds the edits of devices of one inventory."""

    def __init__(self, inventory: Inventory, options: Options, *, links: bool = False) -> None:
        """Of one inventory.

        Args:
            inventory: the host.
            options: the choices.
            links: the spec's hook makes the by-path links (`by_path_links`).
        """
        self._dev_root = inventory.dev_root
        self._additional_gids = options.additional_gids
        newest = options.newest_version
        host_path = newest is None or versions.compare(newest, HOST_PATH_SINCE) >= 0
        self._by_path_nodes = host_path and not links

    def gpu(self, gpu: Gpu) -> ContainerEdits:
        """A full GPU: its own nodes and its DRM nodes."""
        return self.nodes(gpu_nodes(gpu), by_path=self._drm_paths(gpu))

    def mig(self, device: MigDevice, gpu: Gpu) -> ContainerEdits:
        """A MIG device: its nodes."""
        by_path = self._drm_paths(gpu) if has_graphics(device) else ()
        return self.nodes(mig_nodes(device, gpu), by_path=by_path)

    def nodes(
        self,
        devices: tuple[CharDevice, ...],
        by_path: tuple[tuple[CharDevice, str], ...] = (),
    ) -> ContainerEdits:
        """The nodes, and the groups that may use them where those are asked for."""
        named = [(device, device.path) for device in devices] + list(by_path)
        groups = {device.gid for device in devices if device.gid and not _for_everybody(device)}
        return ContainerEdits(
            device_nodes=tuple(self._node(device, path) for device, path in named),
            additional_gids=tuple(sorted(groups)) if self._additional_gids else (),
        )

    def _node(self, device: CharDevice, path: str) -> DeviceNode:
        host_path = join(self._dev_root, device.path)
        with_group = self._additional_gids and device.gid
        return DeviceNode(
            path=path,
            host_path=host_path if host_path != path else "",
            type="c",
            major=device.major,
            minor=device.minor,
            file_mode=device.file_mode,
            permissions=PERMISSIONS,
            gid=device.gid if with_group else None,
        )

    def _drm_paths(self, gpu: Gpu) -> tuple[tuple[CharDevice, str], ...]:
        """Where no hook makes links: the DRM nodes once more under their by-path names.

        Of those that the host has alone: a rootless engine binds the node of that name.
        """
        if not self._by_path_nodes:
            return ()
        paths = ((node, by_path(gpu, node)) for node in gpu.drm_nodes)
        return tuple((node, path) for node, path in paths if path and path in gpu.by_path)


def gpu_nodes(gpu: Gpu) -> tuple[CharDevice, ...]:
    """The nodes of a full GPU."""
    return (*gpu.nodes, *gpu.drm_nodes)


def mig_nodes(device: MigDevice, gpu: Gpu) -> tuple[CharDevice, ...]:
    """The nodes of its GPU and its two capabilities; the GPU's DRM nodes where they serve."""
    capabilities = (device.gpu_instance_cap, device.compute_instance_cap)
    return (*gpu.nodes, *capabilities, *(gpu.drm_nodes if has_graphics(device) else ()))


def has_graphics(device: MigDevice) -> bool:
    """Whether its profile can do graphics, which DRM nodes serve."""
    return "gfx" in device.profile


def by_path_links(gpus: Iterable[Gpu]) -> list[Link]:
    """(text, place) of the links for a hook that makes those whose node the container has."""
    return [
        (f"../{base_name(node.path)}", ContainerPath(path))
        for gpu in gpus
        for node in gpu.drm_nodes
        if (path := by_path(gpu, node))
    ]


def by_path(gpu: Gpu, node: CharDevice) -> str | None:
    """The name that udev gives a DRM node (60-drm.rules): by PCI address and kind.

    None for a GPU without a PCI address.
    """
    if gpu.pci_address is None:
        return None
    kind = "render" if "renderD" in node.path else "card"
    return f"/dev/dri/by-path/pci-{gpu.pci_address}-{kind}"


def _for_everybody(device: CharDevice) -> bool:
    return device.file_mode & 0o006 == 0o006
