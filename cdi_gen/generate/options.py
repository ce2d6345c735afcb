# SPDX-License-Identifier: Apache-2.0
"""Options of a spec."""

from __future__ import annotations

from typing import NamedTuple

STRATEGIES = ("index", "uuid", "pci", "type-index")
"""Ways to name a device. Each chosen strategy gives a device one name."""

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
"""The steps of the hook in the order in which they run. A step that nvidia-ctk has too has the name
of nvidia-ctk's hook."""

DISABLED_BY_DEFAULT = frozenset({CHECK_REQUIREMENTS, "chmod"})
"""Steps that run only if they are enabled. ``check-requirements``: nvidia-ctk's specs have no such
check, and the facts need NVML. ``chmod``: only old releases of crun create directories in /dev that
users other than root cannot enter."""

ALL = "all"
NONE = "none"

FILES, TREE = "files", "tree"
FORMS = (FILES, TREE)
"""Forms of a spec: mounts of the driver's files, or of the driver tree, which ``cdi-gen refresh``
makes."""


class Options(NamedTuple):
    """Options of ``generate``; the defaults are those of the command line."""

    vendor: str = "nvidia.com"
    class_: str = "gpu"
    names: tuple[str, ...] = ("index", "uuid", "pci")
    """Naming strategies, a part of ``STRATEGIES``, in the order of the devices in the spec."""
    devices: tuple[str, ...] = (ALL,)
    """Names of the devices to put in the spec, under any strategy."""
    all_device: bool = True
    """Write the device ``all``."""
    capabilities: tuple[str, ...] = (ALL,)
    """Driver capabilities, see ``cdi_gen.catalogue``."""
    form: str = FILES
    """A part of ``FORMS``."""
    hooks: bool = True
    """Write hooks for the host's hook program, if one is installed."""
    disabled_hooks: tuple[str, ...] = ()
    enabled_hooks: tuple[str, ...] = ()
    """Takes precedence over ``disabled_hooks``."""
    library_directories: tuple[str, ...] | None = None
    """Directories of the libraries in the container of a spec without hooks. None: the directories
    that the loaders of all common images search, see ``cdi_gen.generate.image_layouts``. If all
    images have the same layout, one directory is enough and halves the number of mounts."""
    ldconfig_path: str | None = None
    """The host's ldconfig, which the hook runs; None: the hook writes the loader's cache itself."""
    leave_read_only_roots: bool = False
    """The hook does not write to the root of a read-only container."""
    additional_gids: bool = False
    """Add the groups that own device nodes to the container's process (CDI 0.7.0)."""
    rootless: bool = False
    """Leave out nodes that do not exist on the host: rootless engines cannot create nodes."""
    newest_version: str | None = None
    """The newest CDI version that the engine supports; None: any."""

    def runs(self, hook: str) -> bool:
        """Whether the spec runs this step of the hook."""
        if hook in self.enabled_hooks:
            return True
        disabled = DISABLED_BY_DEFAULT.union(self.disabled_hooks)
        return hook not in disabled and ALL not in disabled


DEFAULTS = Options()
