# SPDX-License-Identifier: Apache-2.0
"""Edits for one device: its nodes, and what else goes with it."""

from __future__ import annotations

from cdi_gen.cdi import versions
from cdi_gen.cdi.model import ContainerEdits, DeviceNode
from cdi_gen.generate.options import Options
from cdi_gen.inventory import CharDevice, Gpu, Inventory, MigDevice
from cdi_gen.paths import join

HOST_PATH_SINCE = "0.5.0"
"""The CDI version in which a node's path on the host may differ from that in the container."""

PERMISSIONS = "rw"
"""Not ``m``: nothing in a container needs to make these nodes."""

EMPTY = ContainerEdits(env=("NVIDIA_VISIBLE_DEVICES=void",))
"""The standard allows no device without edits; the spec sets this variable anyway."""


class DeviceEdits:
    """Builds the edits of devices of one inventory."""

    def __init__(self, inventory: Inventory, options: Options) -> None:
        self._dev_root = inventory.dev_root
        self._additional_gids = options.additional_gids
        newest = options.newest_version
        self._by_path = newest is None or versions.compare(newest, HOST_PATH_SINCE) >= 0

    def gpu(self, gpu: Gpu) -> ContainerEdits:
        """A full GPU: its own node and its DRM nodes."""
        return self.nodes((gpu.node, *gpu.drm_nodes), by_path=self._drm_paths(gpu))

    def mig(self, device: MigDevice, gpu: Gpu) -> ContainerEdits:
        """A MIG device: the node of its GPU and its two capabilities.

        The GPU's DRM nodes serve graphics, which only profiles with ``gfx`` can do.
        """
        graphics = "gfx" in device.profile
        nodes = (gpu.node, device.gpu_instance_cap, device.compute_instance_cap)
        return self.nodes(
            nodes + (gpu.drm_nodes if graphics else ()),
            by_path=self._drm_paths(gpu) if graphics else (),
        )

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
        """The DRM nodes once more under their by-path names.

        Nodes, not links: in the container /dev is a mount of its own, where no hook of ours writes.
        """
        return tuple((node, by_path(gpu, node)) for node in gpu.drm_nodes if self._by_path)


def by_path(gpu: Gpu, node: CharDevice) -> str:
    """The name that udev gives a DRM node (60-drm.rules): by PCI address and kind."""
    kind = "render" if "renderD" in node.path else "card"
    return f"/dev/dri/by-path/pci-{gpu.pci_address}-{kind}"


def _for_everybody(device: CharDevice) -> bool:
    return device.file_mode & 0o006 == 0o006
