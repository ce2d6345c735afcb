# SPDX-License-Identifier: Apache-2.0
"""The files of an installation beside the programs: wrappers under NVIDIA's names, config.toml.

A wrapper gives the shim and the prestart hook the config.toml of the installation. Without a driver
it starts the low-level runtime at once, so that pods that must run before the driver, as the one
that installs it, do run when the handler is the engine's default.
"""

from __future__ import annotations

import shlex
from typing import NamedTuple

from cdi_base import HOOK, PRESTART_HOOK, RUNTIME, nvidia
from cdi_gen.engines.text import toml_text
from cdi_gen.kubernetes.node.settings import NodeSettings, ShimSettings, toolkit_directory
from cdi_gen.paths import join

PROGRAMS = "bin"
"""The directory of the programs of `hooks/` in an installation."""

CONFIGURATION = f".config/{nvidia.CONFIGURATION}"
OVERRIDE = "NVIDIA_CTK_CONFIG_FILE_PATH"
DEFAULT_RUNTIMES = ("runc", "crun")

SIGNS_OF_A_DRIVER = ("/proc/driver/nvidia/version", "/dev/dxg")
"""Of Linux and of WSL 2."""

HEADER = "# Written by cdi-gen kubernetes setup-node; replaced when it starts again.\n"


class InstalledFile(NamedTuple):
    """A file or a link of an installation."""

    text: str
    """The content, or the target of the link."""
    mode: int = 0o644
    is_link: bool = False


class LowLevel(NamedTuple):
    """The low-level runtime that the engine uses without the shim."""

    program: str | None
    """Its path; None if it is unknown."""
    is_found_by_name: bool
    """Whether the shim finds it without being told its path."""


def installed_files(
    settings: NodeSettings, root: str, directory: str, low_level: LowLevel
) -> dict[str, InstalledFile]:
    """Return the files by their paths below the directory of the installation.

    Args:
        settings: the settings.
        root: the directory that has `toolkit`.
        directory: the directory of this installation.
        low_level: the low-level runtime of the engine.
    """
    shim = settings.shim
    modes = {"": shim.mode, ".cdi": "cdi", ".legacy": "legacy"}
    files = {}
    for ending, mode in modes.items():
        configuration = CONFIGURATION.replace("config.toml", f"config{ending}.toml")
        text = configuration_text(shim, mode, settings.driver_root, root, low_level)
        files[configuration] = InstalledFile(text)
        files[f"{nvidia.RUNTIME}{ending}"] = InstalledFile(
            _wrapper(
                join(directory, PROGRAMS, RUNTIME),
                join(directory, configuration),
                (*shim.runtimes, *([low_level.program] if low_level.program else [])),
            ),
            0o755,
        )
    files[nvidia.PRESTART_HOOK] = InstalledFile(
        _wrapper(join(directory, PROGRAMS, PRESTART_HOOK), join(directory, CONFIGURATION), ()),
        0o755,
    )
    for name in (nvidia.HOOK, HOOK):
        files[name] = InstalledFile(f"{PROGRAMS}/{name}", is_link=True)
    files[nvidia.CTK] = InstalledFile(_ctk(join(directory, PROGRAMS, nvidia.HOOK)), 0o755)
    return files


def _wrapper(program: str, configuration: str, low_level: tuple[str, ...]) -> str:
    """Return a script that starts a program with its config.toml."""
    tests = " || ".join(f"[ -e {path} ]" for path in SIGNS_OF_A_DRIVER)
    lines = ["#!/bin/sh", HEADER.rstrip()]
    runtimes = [path for path in low_level if path.startswith("/")]
    if runtimes:
        lines += [
            f"if ! {{ {tests}; }}; then",
            f"    for runtime in {' '.join(map(shlex.quote, runtimes))}; do",
            '        [ -x "$runtime" ] && exec "$runtime" "$@"',
            "    done",
            "fi",
        ]
    lines += [
        f"export {OVERRIDE}={shlex.quote(configuration)}",
        f'exec {shlex.quote(program)} "$@"',
    ]
    return "\n".join(lines) + "\n"


def _ctk(hook: str) -> str:
    """Return the part of nvidia-ctk that specs name: `nvidia-ctk hook`."""
    return (
        f"#!/bin/sh\n{HEADER}"
        'if [ "$1" = hook ]; then\n'
        "    shift\n"
        f'    exec {shlex.quote(hook)} "$@"\n'
        "fi\n"
        'echo "nvidia-ctk of cdi-gen has only the command hook; use cdi-gen for $1" >&2\n'
        "exit 1\n"
    )


def configuration_text(
    shim: ShimSettings, mode: str, driver_root: str, root: str, low_level: LowLevel
) -> str:
    """Return config.toml.

    The line `runtimes` of the default is written as it is in NVIDIA's file: with it the shim starts
    the low-level runtime without Python where it has nothing else to do.
    """
    toolkit = toolkit_directory(root)
    runtimes = shim.runtimes or _runtimes(low_level)
    accept = "accept-nvidia-visible-devices"
    document = {
        f"{accept}-as-volume-mounts": shim.accept_mounts,
        f"{accept}-envvar-when-unprivileged": shim.accept_environment,
        "nvidia-container-cli": {"root": driver_root if driver_root != "/" else ""},
        nvidia.RUNTIME: {
            "debug": shim.debug,
            "log-level": shim.log_level,
            "mode": mode,
            "runtimes": list(runtimes),
            "modes": {
                "cdi": {
                    "annotation-prefixes": list(shim.annotation_prefixes),
                    "default-kind": shim.default_kind,
                    "spec-dirs": list(shim.spec_directories),
                }
            },
        },
        nvidia.PRESTART_HOOK: {
            "path": join(toolkit, nvidia.PRESTART_HOOK),
            "skip-mode-detection": shim.skip_mode_detection,
        },
        nvidia.CTK: {"path": join(toolkit, nvidia.CTK)},
    }
    return HEADER + toml_text.render(document)


def _runtimes(low_level: LowLevel) -> tuple[str, ...]:
    """Return the names, if the shim finds the engine's runtime by them; else its path first."""
    if low_level.program is None or low_level.is_found_by_name:
        return DEFAULT_RUNTIMES
    return (low_level.program, *DEFAULT_RUNTIMES)
