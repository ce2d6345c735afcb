# SPDX-License-Identifier: Apache-2.0
"""Builds the container edits of one device: its device nodes and their groups."""

from __future__ import annotations

from collections.abc import Iterable

from cdi_gen.cdi import versions
from cdi_gen.cdi.model import ContainerEdits, DeviceNode
from cdi_gen.generate.driver_files import Link
from cdi_gen.generate.options import Options
from cdi_gen.inventory import CharDevice, Gpu, Inventory, MigDevice
from cdi_gen.paths import ContainerPath, base_name, join

HOST_PATH_SINCE = "0.5.0"
"""The first CDI version with ``hostPath``: a node may have another path in the container."""

PERMISSIONS = "rw"
"""Without ``m`` (mknod): no program in a container needs to create these nodes."""

NO_EDITS = ContainerEdits(env=("NVIDIA_VISIBLE_DEVICES=void",))
"""The edits of the device ``none``. The CDI specification requires edits of every device; the spec
sets this variable for all devices."""


class DeviceEdits:
    """Builds the container edits of the devices of one inventory."""

    def __init__(self, inventory: Inventory, options: Options, *, links: bool = False) -> None:
        """Take what the edits of all devices depend on.

        Args:
            inventory: the host's inventory.
            options: the options of the spec.
            links: whether the spec's hook creates the by-path links (`by_path_links`).
        """
        self._dev_root = inventory.dev_root
        self._additional_gids = options.additional_gids
        newest_version = options.newest_version
        has_host_path = (
            newest_version is None or versions.compare(newest_version, HOST_PATH_SINCE) >= 0
        )
        self._by_path_nodes = has_host_path and not links

    def gpu(self, gpu: Gpu) -> ContainerEdits:
        """Return the edits of a full GPU: its own nodes and its DRM nodes."""
        return self.nodes(gpu_nodes(gpu), by_path=self._by_path_copies(gpu))

    def mig(self, device: MigDevice, gpu: Gpu) -> ContainerEdits:
        """Return the edits of a MIG device on its GPU."""
        by_path = self._by_path_copies(gpu) if has_graphics(device) else ()
        return self.nodes(mig_nodes(device, gpu), by_path=by_path)

    def nodes(
        self,
        devices: tuple[CharDevice, ...],
        by_path: tuple[tuple[CharDevice, str], ...] = (),
    ) -> ContainerEdits:
        """Return the edits with these nodes, and with their groups if the options request groups.

        Args:
            devices: nodes that keep their path in the container.
            by_path: further nodes with another path in the container.
        """
        node_paths = [(device, device.path) for device in devices] + list(by_path)
        groups = {device.gid for device in devices if device.gid and not _is_open_to_all(device)}
        return ContainerEdits(
            device_nodes=tuple(self._node(device, path) for device, path in node_paths),
            additional_gids=tuple(sorted(groups)) if self._additional_gids else (),
        )

    def _node(self, device: CharDevice, path: str) -> DeviceNode:
        host_path = join(self._dev_root, device.path)
        has_group = self._additional_gids and device.gid
        return DeviceNode(
            path=path,
            host_path=host_path if host_path != path else "",
            type="c",
            major=device.major,
            minor=device.minor,
            file_mode=device.file_mode,
            permissions=PERMISSIONS,
            gid=device.gid if has_group else None,
        )

    def _by_path_copies(self, gpu: Gpu) -> tuple[tuple[CharDevice, str], ...]:
        """Return the DRM nodes with their by-path names; empty if the hook creates links instead.

        Only names that exist on the host: rootless engines bind-mount the host's node by its name.
        """
        if not self._by_path_nodes:
            return ()
        paths = ((node, by_path(gpu, node)) for node in gpu.drm_nodes)
        return tuple((node, path) for node, path in paths if path and path in gpu.by_path)


def gpu_nodes(gpu: Gpu) -> tuple[CharDevice, ...]:
    """Return the nodes of a full GPU."""
    return (*gpu.nodes, *gpu.drm_nodes)


def mig_nodes(device: MigDevice, gpu: Gpu) -> tuple[CharDevice, ...]:
    """Return the nodes of the GPU and both capabilities; DRM nodes only for a graphics profile."""
    capabilities = (device.gpu_instance_cap, device.compute_instance_cap)
    return (*gpu.nodes, *capabilities, *(gpu.drm_nodes if has_graphics(device) else ()))


def has_graphics(device: MigDevice) -> bool:
    """Whether the MIG profile supports graphics, which needs the DRM nodes."""
    return "gfx" in device.profile


def by_path_links(gpus: Iterable[Gpu]) -> list[Link]:
    """Return the by-path links of all DRM nodes; the hook creates those whose node exists."""
    return [
        (f"../{base_name(node.path)}", ContainerPath(path))
        for gpu in gpus
        for node in gpu.drm_nodes
        if (path := by_path(gpu, node))
    ]


def by_path(gpu: Gpu, node: CharDevice) -> str | None:
    """Return the name by PCI address and kind that udev gives a DRM node (60-drm.rules).

    None for a GPU without a PCI address.
    """
    if gpu.pci_address is None:
        return None
    kind = "render" if "renderD" in node.path else "card"
    return f"/dev/dri/by-path/pci-{gpu.pci_address}-{kind}"


def _is_open_to_all(device: CharDevice) -> bool:
    return device.file_mode & 0o006 == 0o006
