# SPDX-License-Identifier: Apache-2.0
"""Remarks on what a device gives a container: files that it does not need, GPUs of others."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import lru_cache

from cdi_base import nvidia
from cdi_base.findings import Finding
from cdi_gen.cdi.model import ContainerEdits
from cdi_gen.errors import CdiGenError
from cdi_gen.generate import DEFAULTS, generate
from cdi_gen.inventory import Inventory

_GRAPHICS = ("libEGL_nvidia.so.", "libGLX_nvidia.so.")
_STEP = "update-application-profile"
_USUAL = ("compute", "utility")
"""The capabilities of a container that uses CUDA and `nvidia-smi`."""


def remarks(name: str, edits: ContainerEdits, path: str, inventory: Inventory) -> Iterator[Finding]:
    """Yield remarks on a device that a container would get.

    Args:
        name: the qualified name.
        edits: the edits of the spec and of the device.
        path: the spec file.
        inventory: of the host.
    """
    files = [mount.host_path for mount in edits.mounts]
    has_graphics = any(file.rpartition("/")[2].startswith(_GRAPHICS) for file in files)
    gpus = {
        node.path
        for node in edits.device_nodes
        if nvidia.gpu_minor(node.path.rpartition("/")[2]) is not None
    }
    limits = any(_STEP in word for hook in edits.hooks for word in hook.args)
    if has_graphics and 0 < len(gpus) < len(inventory.gpus) and not limits:
        yield Finding(
            "CDG-Y014",
            "warning",
            f"EGL and Vulkan in a container with {name} look for all {len(inventory.gpus)} GPUs of "
            f"the host: {path} has no hook {_STEP}",
            subject=path,
            fix=f"sudo cdi-gen hook install && sudo cdi-gen generate -o {shlex.quote(path)}",
        )
    needed = _needed(inventory)
    if needed and len(files) > needed:
        yield Finding(
            "CDG-Y013",
            "debug",
            f"a container with {name} gets {len(files)} files of the driver; "
            f"{' and '.join(_USUAL)} need {needed}",
            subject=path,
            fix=f"sudo cdi-gen generate --capabilities {','.join(_USUAL)} -o {shlex.quote(path)}",
        )


@lru_cache(maxsize=1)  # the same for each engine
def _needed(inventory: Inventory) -> int:
    """The number of mounts of a spec with the usual capabilities; 0 if none can be generated."""
    try:
        spec = generate(inventory, DEFAULTS._replace(capabilities=_USUAL))
    except CdiGenError:
        return 0
    return len(spec.container_edits.mounts)
