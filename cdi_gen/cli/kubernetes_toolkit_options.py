# SPDX-License-Identifier: Apache-2.0
"""The options of ``cdi-gen kubernetes toolkit``, with the variables of NVIDIA's container."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.cli.host_options import DIRECTORY, PROGRAM, TEXT
from cdi_gen.kubernetes.node.settings import (
    BUNDLE,
    CRIO_MODES,
    ENGINES,
    LOG_LEVELS,
    MANAGEMENT_KIND,
    MODES,
    PID_FILE,
    RESTART_MODES,
)

F = TypeVar("F", bound=Callable[..., Any])


def _for_config_toml(name: str, parameter: str, text: str, *, default: bool) -> Callable[[F], F]:
    """An option for a key of config.toml, with the variable that NVIDIA's container has."""
    variable = name.replace("nvidia-container-runtime-hook.", "NVIDIA_CONTAINER_RUNTIME_HOOK_")
    return click.option(
        f"--{name}/--no-{name}",
        parameter,
        default=default,
        envvar=variable.upper().replace("-", "_"),
        help=f"{text} A key of config.toml.  [default: {'yes' if default else 'no'}]",
    )


_OPTIONS = (
    click.option(
        "--toolkit-install-dir",
        "--root",
        "root",
        type=DIRECTORY,
        default="/usr/local/nvidia",
        show_default=True,
        envvar=["TOOLKIT_INSTALL_DIR", "ROOT"],
        help="Directory of the host for the programs, which get DIR/toolkit.",
    ),
    click.option(
        "--bundle",
        type=DIRECTORY,
        default=BUNDLE,
        show_default=True,
        help="Directory with the programs and their interpreter.",
    ),
    click.option(
        "-r",
        "--runtime",
        type=click.Choice(ENGINES),
        default="docker",
        show_default=True,
        envvar="RUNTIME",
        help="The engine to configure.",
    ),
    click.option(
        "--config",
        "configuration",
        type=PROGRAM,
        envvar=["RUNTIME_CONFIG", "CONTAINERD_CONFIG", "DOCKER_CONFIG", "CRIO_CONFIG"],
        help="The engine's configuration file.  [default: that of the host's distribution]",
    ),
    click.option(
        "--drop-in-config",
        "drop_in",
        type=PROGRAM,
        envvar="RUNTIME_DROP_IN_CONFIG",
        help="The drop-in file of containerd or CRI-O.  [default: that of the host's distribution]",
    ),
    click.option(
        "--drop-in-config-host-path",
        "drop_in_on_host",
        type=PROGRAM,
        envvar="RUNTIME_DROP_IN_CONFIG_HOST_PATH",
        help="The host's path of the drop-in file.  [default: as it is below --host-root]",
    ),
    click.option(
        "--executable-path",
        "executable",
        type=PROGRAM,
        envvar="RUNTIME_EXECUTABLE_PATH",
        help="The engine's program on the host.  [default: the one in the path]",
    ),
    click.option(
        "--socket",
        type=PROGRAM,
        envvar=["RUNTIME_SOCKET", "CONTAINERD_SOCKET", "DOCKER_SOCKET"],
        help="The engine's socket.  [default: that of the host's distribution]",
    ),
    click.option(
        "--restart-mode",
        type=click.Choice(RESTART_MODES),
        envvar="RUNTIME_RESTART_MODE",
        help="How the engine reads its configuration again.  [default: systemd for CRI-O, else "
        "signal]",
    ),
    click.option(
        "--runtime-name",
        "--nvidia-runtime-name",
        "--runtime-class",
        "runtime_name",
        type=TEXT,
        default="nvidia",
        show_default=True,
        envvar=["NVIDIA_RUNTIME_NAME", "CONTAINERD_RUNTIME_CLASS", "DOCKER_RUNTIME_NAME"],
        help="Name of the handler.",
    ),
    click.option(
        "--set-as-default/--no-set-as-default",
        default=True,
        envvar=[
            "NVIDIA_RUNTIME_SET_AS_DEFAULT",
            "CONTAINERD_SET_AS_DEFAULT",
            "DOCKER_SET_AS_DEFAULT",
        ],
        help="Use the handler also for pods without a RuntimeClass.  [default: yes]",
    ),
    click.option(
        "--config-source",
        "--config-sources",
        "sources",
        type=TEXT,
        envvar=["RUNTIME_CONFIG_SOURCES", "RUNTIME_CONFIG_SOURCE"],
        help="Accepted without effect: all files that the engine reads are read.  [default: none]",
    ),
    click.option(
        "--host-root",
        type=DIRECTORY,
        default="/host",
        show_default=True,
        envvar="HOST_ROOT_MOUNT",
        help="Directory in which the host's root is mounted.",
    ),
    click.option(
        "--driver-root",
        "--nvidia-driver-root",
        "driver_root",
        type=DIRECTORY,
        default="/run/nvidia/driver",
        show_default=True,
        envvar=["NVIDIA_DRIVER_ROOT", "DRIVER_ROOT"],
        help="Directory of the host that has the driver.",
    ),
    click.option(
        "--dev-root",
        type=DIRECTORY,
        envvar=["NVIDIA_DEV_ROOT", "DEV_ROOT"],
        help="Directory of the host that has /dev.  [default: the driver root]",
    ),
    click.option(
        "--cdi-enabled/--no-cdi-enabled",
        "cdi",
        default=False,
        envvar=["CDI_ENABLED", "ENABLE_CDI"],
        help="Write the spec of all GPUs for the operator's own containers.  [default: no]",
    ),
    click.option(
        "--enable-cdi-in-runtime/--no-enable-cdi-in-runtime",
        "cdi_in_engine",
        default=None,
        envvar="RUNTIME_ENABLE_CDI",
        help="Enable CDI in the engine.  [default: as --cdi-enabled]",
    ),
    click.option(
        "--cdi-output-dir",
        type=DIRECTORY,
        default=SPEC_DIRECTORIES[-1],
        show_default=True,
        envvar="CDI_OUTPUT_DIR",
        help="Directory of the specs.",
    ),
    click.option(
        "--cdi-kind",
        type=TEXT,
        default=MANAGEMENT_KIND,
        show_default=True,
        envvar="CDI_KIND",
        help="Kind of that spec.",
    ),
    click.option(
        "--nvidia-container-runtime.mode",
        "mode",
        type=click.Choice(MODES),
        default="auto",
        show_default=True,
        envvar="NVIDIA_CONTAINER_RUNTIME_MODE",
        help="How the handler resolves devices.",
    ),
    click.option(
        "--nvidia-container-runtime.log-level",
        "log_level",
        type=click.Choice(LOG_LEVELS),
        default="info",
        show_default=True,
        envvar="NVIDIA_CONTAINER_RUNTIME_LOG_LEVEL",
        help="Level of the shim's log.",
    ),
    click.option(
        "--nvidia-container-runtime.debug",
        "debug_log",
        type=PROGRAM,
        default="/dev/null",
        show_default=True,
        envvar="NVIDIA_CONTAINER_RUNTIME_DEBUG",
        help="The shim's log.",
    ),
    click.option(
        "--nvidia-container-runtime.runtimes",
        "runtimes",
        type=TEXT,
        envvar="NVIDIA_CONTAINER_RUNTIME_RUNTIMES",
        help="Low-level runtimes.  [default: that of the engine, runc, crun]",
    ),
    click.option(
        "--nvidia-container-runtime.modes.cdi.default-kind",
        "default_kind",
        type=TEXT,
        default="nvidia.com/gpu",
        show_default=True,
        envvar="NVIDIA_CONTAINER_RUNTIME_MODES_CDI_DEFAULT_KIND",
        help="Kind of devices without one.",
    ),
    click.option(
        "--nvidia-container-runtime.modes.cdi.annotation-prefixes",
        "annotation_prefixes",
        type=TEXT,
        default="cdi.k8s.io/",
        show_default=True,
        envvar="NVIDIA_CONTAINER_RUNTIME_MODES_CDI_ANNOTATION_PREFIXES",
        help="Annotations that the shim reads.",
    ),
    _for_config_toml(
        "nvidia-container-runtime-hook.skip-mode-detection",
        "skip_mode_detection",
        "Written for NVIDIA's command lines; the prestart hook of cdi-gen does not use it.",
        default=True,
    ),
    _for_config_toml(
        "accept-nvidia-visible-devices-envvar-when-unprivileged",
        "accept_environment",
        "Containers without privileges may request GPUs by NVIDIA_VISIBLE_DEVICES.",
        default=True,
    ),
    _for_config_toml(
        "accept-nvidia-visible-devices-as-volume-mounts",
        "accept_mounts",
        "Containers may request GPUs by mounts in /var/run/nvidia-container-devices.",
        default=False,
    ),
    click.option(
        "--config-mode",
        "crio_mode",
        type=click.Choice(CRIO_MODES),
        default="config",
        show_default=True,
        envvar="CRIO_CONFIG_MODE",
        help="CRI-O: register handlers, or run the prestart hook for all containers.",
    ),
    click.option(
        "--hooks-dir",
        type=DIRECTORY,
        default="/usr/share/containers/oci/hooks.d",
        show_default=True,
        envvar="CRIO_HOOKS_DIR",
        help="CRI-O: directory of the hook's file.",
    ),
    click.option(
        "--hook-filename",
        type=TEXT,
        default="oci-nvidia-hook.json",
        show_default=True,
        envvar="CRIO_HOOK_FILENAME",
        help="CRI-O: name of the hook's file.",
    ),
    click.option(
        "--pid-file",
        type=PROGRAM,
        default=PID_FILE,
        show_default=True,
        envvar=["TOOLKIT_PID_FILE", "PID_FILE"],
        help="File that one instance locks.",
    ),
    click.option(
        "-n",
        "--no-daemon/--daemon",
        "no_daemon",
        default=False,
        envvar="NO_DAEMON",
        help="End after the set-up, and undo nothing.",
    ),
    click.option(
        "--no-runtime-config/--runtime-config",
        "no_runtime_config",
        default=False,
        envvar="NO_RUNTIME_CONFIG",
        help="Install the programs, and configure no engine.",
    ),
    click.option(
        "-p",
        "--enable-nri-plugin/--no-enable-nri-plugin",
        "nri",
        default=False,
        envvar="ENABLE_NRI_PLUGIN",
        help="Serve the NRI plugin, and configure no engine.",
    ),
)


def toolkit_options(command: F) -> F:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
