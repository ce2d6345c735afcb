# SPDX-License-Identifier: Apache-2.0
"""The settings of `cdi-gen kubernetes setup-node`, and of the toolkit operand. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from cdi_base import nvidia
from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.paths import join

ENGINES = ("containerd", "crio", "docker")
RESTART_MODES = ("signal", "systemd", "none")
CRIO_MODES = ("config", "hook")
MODES = ("auto", "legacy", "cdi", "jit-cdi")
LOG_LEVELS = ("error", "warning", "info", "debug")

MANAGEMENT_KIND = "management.nvidia.com/gpu"
GPU_KIND = "nvidia.com/gpu"

PID_FILE = "/run/nvidia/toolkit/toolkit.pid"
STORE = "toolkit.cdi-gen"
"""Beside `toolkit`: the installations."""
BUNDLE = "/usr/share/cdi-gen/bundle"
"""Where the image has the programs with their interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShimSettings:
    """Settings of the runtime shim and the prestart hook, for their config.toml."""

    mode: str = "auto"
    log_level: str = "info"
    debug: str = "/dev/null"
    runtimes: tuple[str, ...] = ()
    """The low-level runtimes that the user names; empty: those of the engine."""
    default_kind: str = GPU_KIND
    annotation_prefixes: tuple[str, ...] = ("cdi.k8s.io/",)
    spec_directories: tuple[str, ...] = SPEC_DIRECTORIES
    accept_environment: bool = True
    accept_mounts: bool = False
    skip_mode_detection: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What to set up, and where. Paths are paths of the host unless they say otherwise."""

    host_root: str = "/"
    """The path of the host's `/` for this process."""
    root: str | None = None
    """The directory of the installation; None: that of the host's system."""
    bundle: str = BUNDLE
    """A path of this process."""
    engine: str | None = None
    """None: the one that runs."""
    configuration: str | None = None
    """A path of this process if it exists here, else of the host; None: the engine's default."""
    drop_in: str | None = None
    """As `configuration`."""
    drop_in_on_host: str | None = None
    """The host's path of `drop_in`, if that is a path of this process."""
    socket: str | None = None
    """As `configuration`."""
    executable: str | None = None
    """The engine's program, whose version decides what is written."""
    restart_mode: str | None = None
    """None: systemd for CRI-O, a signal for the others."""
    runtime_name: str = "nvidia"
    set_as_default: bool = False
    configure_engine: bool = True
    enable_cdi_in_engine: bool = True
    crio_mode: str = "config"
    hooks_directory: str = "/usr/share/containers/oci/hooks.d"
    hook_file: str = "oci-nvidia-hook.json"
    cdi: bool = True
    """Write the management spec."""
    cdi_directory: str = SPEC_DIRECTORIES[-1]
    cdi_kind: str = MANAGEMENT_KIND
    driver_root: str = "/"
    dev_root: str | None = None
    hooks: bool = True
    """False: install no program, register no handler, write specs without hooks."""
    keep_programs: bool = False
    """Leave the programs on the host at the end, for pods that start during an upgrade."""
    wait: bool = True
    """Wait for a signal and undo; False: end after the set-up."""
    pid_file: str = PID_FILE
    """A path of this process."""
    shim: ShimSettings = ShimSettings()

    @property
    def handlers(self) -> dict[str, str]:
        """The names of the engine's handlers and the programs that they run.

        The handler that may become the default one is the last: it is registered when the engine's
        low-level runtime is known.
        """
        name = self.runtime_name
        return {
            f"{name}-cdi": f"{nvidia.RUNTIME}.cdi",
            f"{name}-legacy": f"{nvidia.RUNTIME}.legacy",
            name: nvidia.RUNTIME,
        }


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text with commas between them."""
    return tuple(word for part in text.split(",") if (word := part.strip()))


def toolkit_directory(root: str) -> str:
    """Return the directory that engines and specs name."""
    return join(root, "toolkit")


def store_directory(root: str) -> str:
    """Return the directory of the installations."""
    return join(root, STORE)
