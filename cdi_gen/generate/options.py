# SPDX-License-Identifier: Apache-2.0
"""What can be chosen about a spec."""

from __future__ import annotations

from typing import NamedTuple

STRATEGIES = ("index", "uuid", "pci", "type-index")
"""Ways to name a device; each chosen one gives every device one name."""

CHECK_REQUIREMENTS = "check-requirements"

HOOKS = (
    CHECK_REQUIREMENTS,
    "create-symlinks",
    "enable-cuda-compat",
    "update-ldcache",
    "disable-device-node-modification",
    "update-application-profile",
    "chmod",
)
"""The steps of the hook, in their order, by the names of nvidia-ctk's hooks where it has them."""

UNLESS_ENABLED = frozenset({CHECK_REQUIREMENTS, "chmod"})
"""Left out by default: the first, since nvidia-ctk's specs check nothing, and its facts take NVML;
the last, since old crun alone needs it, and /dev is the engine's."""

ALL = "all"
NONE = "none"


class Options(NamedTuple):
    """Options of ``generate``; the defaults are those of the command line."""

    vendor: str = "nvidia.com"
    class_: str = "gpu"
    names: tuple[str, ...] = ("index", "uuid", "pci")
    """Of ``STRATEGIES``, in order."""
    devices: tuple[str, ...] = (ALL,)
    """Names of the devices to put in the spec, under any strategy."""
    all_device: bool = True
    """Write the device ``all``."""
    capabilities: tuple[str, ...] = (ALL,)
    """Driver capabilities, see ``cdi_gen.catalogue``."""
    hooks: bool = True
    """Name the host's hook program in the spec, where one is installed."""
    disabled_hooks: tuple[str, ...] = ()
    enabled_hooks: tuple[str, ...] = ()
    """Wins over ``disabled_hooks``."""
    library_directories: tuple[str, ...] | None = None
    """Where a spec without a hook puts the libraries in the container; None: where the loaders of
    all common images find them, see ``cdi_gen.generate.image_layouts``. A single one is enough
    where the images are known, and halves the mounts."""
    ldconfig_path: str | None = None
    """The host's ldconfig, for the hook to run; None: it writes the cache itself."""
    leave_read_only_roots: bool = False
    """Have the hook change nothing of the root of a read-only container."""
    additional_gids: bool = False
    """Add the groups that own device nodes to the container's process (CDI 0.7.0)."""
    rootless: bool = False
    """For engines of ordinary users, which cannot make a device node: without those that the host
    does not have."""
    newest_version: str | None = None
    """The newest CDI version that the engine takes; None: any."""

    def runs(self, hook: str) -> bool:
        """Whether this hook was left enabled."""
        if hook in self.enabled_hooks:
            return True
        disabled = UNLESS_ENABLED.union(self.disabled_hooks)
        return hook not in disabled and ALL not in disabled


DEFAULTS = Options()
