# SPDX-License-Identifier: Apache-2.0
"""The settings of config.toml as a value, and their keys in the file."""

from __future__ import annotations

from cdi_base import nvidia
from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.errors import HookError
from cdi_runtime import driver_capabilities

_CLI = "nvidia-container-cli"
_RUNTIME, _HOOK = nvidia.RUNTIME, nvidia.PRESTART_HOOK
KEYS = {
    "disable_require": "disable-require",
    "swarm_resource": "swarm-resource",
    "accept_environment_unprivileged": "accept-nvidia-visible-devices-envvar-when-unprivileged",
    "accept_volume_mounts": "accept-nvidia-visible-devices-as-volume-mounts",
    "supported_driver_capabilities": "supported-driver-capabilities",
    "driver_root": f"{_CLI}.root",
    "cli_path": f"{_CLI}.path",
    "cli_environment": f"{_CLI}.environment",
    "cli_debug": f"{_CLI}.debug",
    "ldcache": f"{_CLI}.ldcache",
    "ldconfig": f"{_CLI}.ldconfig",
    "load_kmods": f"{_CLI}.load-kmods",
    "no_pivot": f"{_CLI}.no-pivot",
    "no_cgroups": f"{_CLI}.no-cgroups",
    "user": f"{_CLI}.user",
    "debug": f"{_RUNTIME}.debug",
    "log_level": f"{_RUNTIME}.log-level",
    "mode": f"{_RUNTIME}.mode",
    "runtimes": f"{_RUNTIME}.runtimes",
    "spec_dirs": f"{_RUNTIME}.modes.cdi.spec-dirs",
    "default_kind": f"{_RUNTIME}.modes.cdi.default-kind",
    "annotation_prefixes": f"{_RUNTIME}.modes.cdi.annotation-prefixes",
    "csv_mount_spec_path": f"{_RUNTIME}.modes.csv.mount-spec-path",
    "csv_compat_container_root": f"{_RUNTIME}.modes.csv.compat-container-root",
    "jit_feature_flags": f"{_RUNTIME}.modes.jit-cdi.nvcdi-feature-flags",
    "jit_disabled_hooks": f"{_RUNTIME}.modes.jit-cdi.nvcdi-disable-hooks",
    "cuda_compat_mode": f"{_RUNTIME}.modes.legacy.cuda-compat-mode",
    "hook_path": f"{_HOOK}.path",
    "skip_mode_detection": f"{_HOOK}.skip-mode-detection",
    "ctk_path": "nvidia-ctk.path",
}
"""The key in the file of each attribute."""


class ConfigurationError(HookError):
    """config.toml cannot be read or has an invalid value; the message has file and line."""

    code = "CDG-C101"


class Configuration:
    """The settings of config.toml; at first the defaults of the NVIDIA Container Toolkit 1.20.

    An empty text means "not set" wherever the NVIDIA Container Toolkit reads it so. Paths are those
    of the host.
    """

    __slots__ = (*KEYS, "features", "source", "warnings")

    def __init__(self) -> None:
        self.disable_require = False
        self.swarm_resource: tuple[str, ...] = ()
        """Variables that list devices; NVIDIA_VISIBLE_DEVICES is read only if none of them is
        set."""
        self.accept_environment_unprivileged = True
        self.accept_volume_mounts = False
        self.supported_driver_capabilities = driver_capabilities.SUPPORTED
        self.driver_root = ""
        self.cli_path = ""
        self.cli_environment: tuple[str, ...] = ()
        self.cli_debug = ""
        self.ldcache = ""
        self.ldconfig = ""
        """With its leading `@`, which means a path of the host. Empty: the host's default."""
        self.load_kmods = True
        self.no_pivot = False
        self.no_cgroups = False
        self.user = ""
        self.debug = "/dev/null"
        self.log_level = "info"
        self.mode = "auto"
        self.runtimes: tuple[str, ...] = ("runc", "crun")
        self.spec_dirs: tuple[str, ...] = SPEC_DIRECTORIES
        """In rising priority."""
        self.default_kind = "nvidia.com/gpu"
        self.annotation_prefixes: tuple[str, ...] = ("cdi.k8s.io/",)
        self.csv_mount_spec_path = "/etc/nvidia-container-runtime/host-files-for-container.d"
        self.csv_compat_container_root = ""
        self.jit_feature_flags: tuple[str, ...] = ()
        self.jit_disabled_hooks: tuple[str, ...] = ()
        self.cuda_compat_mode = "ldconfig"
        self.hook_path = nvidia.PRESTART_HOOK
        self.skip_mode_detection = False
        self.ctk_path = nvidia.CTK
        self.features: dict[str, bool] = {}
        self.source: str | None = None
        """The file that was read; None if there was no file."""
        self.warnings: tuple[str, ...] = ()
        """One line each, for the log."""
