# SPDX-License-Identifier: Apache-2.0
"""Takes sockets that no longer exist out of a spec that is kept while the driver is updated.

An update stops nvidia-persistenced, and it does not start again before the new module is loaded.
Programs work without its socket; a container does not start if a file of its spec is missing.
"""

from __future__ import annotations

import os
from dataclasses import replace

from cdi_gen.catalogue import catalogue
from cdi_gen.cdi.model import ContainerEdits, Mount, Spec


def without_lost(spec: Spec, prefix: str) -> Spec | None:
    """Return the spec without the sockets that are gone; None if it has none of them.

    Args:
        spec: the spec.
        prefix: what comes before a path of the host.
    """
    names = tuple(f"/{entry.name}" for entry in catalogue().files if entry.kind == "socket")

    def is_lost(mount: Mount) -> bool:
        return mount.host_path.endswith(names) and not os.path.lexists(f"{prefix}{mount.host_path}")

    def kept(edits: ContainerEdits) -> ContainerEdits:
        return replace(edits, mounts=tuple(mount for mount in edits.mounts if not is_lost(mount)))

    changed = replace(
        spec,
        container_edits=kept(spec.container_edits),
        devices=tuple(
            replace(device, container_edits=kept(device.container_edits)) for device in spec.devices
        ),
    )
    return None if changed == spec else changed
