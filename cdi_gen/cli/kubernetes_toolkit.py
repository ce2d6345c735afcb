# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen kubernetes toolkit``, with the variables of NVIDIA's toolkit container."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.cli import console, kubernetes_node
from cdi_gen.cli.go_flags import GoFlagsCommand
from cdi_gen.cli.host_options import DIRECTORY, PROGRAM, TEXT
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.node.settings import (
    BUNDLE,
    CRIO_MODES,
    ENGINES,
    LOG_LEVELS,
    MANAGEMENT_KIND,
    MODES,
    PID_FILE,
    RESTART_MODES,
    NodeSettings,
    ShimSettings,
    words,
)

F = TypeVar("F", bound=Callable[..., Any])


def _for_config_toml(name: str, parameter: str, *, default: bool) -> Callable[[F], F]:
    """An option for a key of config.toml, with the variable that NVIDIA's container has."""
    variable = name.replace("nvidia-container-runtime-hook.", "NVIDIA_CONTAINER_RUNTIME_HOOK_")
    return click.option(
        f"--{name}/--no-{name}",
        parameter,
        default=default,
        show_default=True,
        envvar=variable.upper().replace("-", "_"),
        help="The key of config.toml.",
    )


@click.command(
    "toolkit",
    cls=GoFlagsCommand,
    short_help="The same as the toolkit container of NVIDIA's GPU Operator.",
)
@click.option(
    "--toolkit-install-dir",
    "--root",
    "root",
    type=DIRECTORY,
    default="/usr/local/nvidia",
    show_default=True,
    envvar=["TOOLKIT_INSTALL_DIR", "ROOT"],
    help="Directory of the host for the programs, which get DIR/toolkit.",
)
@click.option(
    "--bundle",
    type=DIRECTORY,
    default=BUNDLE,
    show_default=True,
    help="Directory with the programs and their interpreter.",
)
@click.option(
    "-r",
    "--runtime",
    type=click.Choice(ENGINES),
    default="docker",
    show_default=True,
    envvar="RUNTIME",
    help="The engine to configure.",
)
@click.option(
    "--config",
    "configuration",
    type=PROGRAM,
    envvar=["RUNTIME_CONFIG", "CONTAINERD_CONFIG", "DOCKER_CONFIG", "CRIO_CONFIG"],
    help="The engine's configuration file.",
)
@click.option("--drop-in-config", "drop_in", type=PROGRAM, envvar="RUNTIME_DROP_IN_CONFIG")
@click.option(
    "--drop-in-config-host-path",
    "drop_in_on_host",
    type=PROGRAM,
    envvar="RUNTIME_DROP_IN_CONFIG_HOST_PATH",
    help="The host's path of the drop-in file.",
)
@click.option(
    "--executable-path",
    "executable",
    type=PROGRAM,
    envvar="RUNTIME_EXECUTABLE_PATH",
    help="The engine's program on the host.",
)
@click.option(
    "--socket",
    type=PROGRAM,
    envvar=["RUNTIME_SOCKET", "CONTAINERD_SOCKET", "DOCKER_SOCKET"],
    help="The engine's socket.",
)
@click.option(
    "--restart-mode",
    type=click.Choice(RESTART_MODES),
    envvar="RUNTIME_RESTART_MODE",
    help="How the engine reads its configuration again.  [default: systemd for CRI-O, else signal]",
)
@click.option(
    "--runtime-name",
    "--nvidia-runtime-name",
    "--runtime-class",
    "runtime_name",
    type=TEXT,
    default="nvidia",
    show_default=True,
    envvar=["NVIDIA_RUNTIME_NAME", "CONTAINERD_RUNTIME_CLASS", "DOCKER_RUNTIME_NAME"],
    help="Name of the handler.",
)
@click.option(
    "--set-as-default/--no-set-as-default",
    default=True,
    show_default=True,
    envvar=["NVIDIA_RUNTIME_SET_AS_DEFAULT", "CONTAINERD_SET_AS_DEFAULT", "DOCKER_SET_AS_DEFAULT"],
    help="Use the handler also for pods without a RuntimeClass.",
)
@click.option(
    "--config-source",
    "--config-sources",
    "sources",
    type=TEXT,
    envvar=["RUNTIME_CONFIG_SOURCES", "RUNTIME_CONFIG_SOURCE"],
    help="Accepted without effect: all files that the engine reads are read.",
)
@click.option(
    "--host-root",
    type=DIRECTORY,
    default="/host",
    show_default=True,
    envvar="HOST_ROOT_MOUNT",
    help="Directory in which the host's root is mounted.",
)
@click.option(
    "--driver-root",
    "--nvidia-driver-root",
    "driver_root",
    type=DIRECTORY,
    default="/run/nvidia/driver",
    show_default=True,
    envvar=["NVIDIA_DRIVER_ROOT", "DRIVER_ROOT"],
    help="Directory of the host that has the driver.",
)
@click.option(
    "--dev-root",
    type=DIRECTORY,
    envvar=["NVIDIA_DEV_ROOT", "DEV_ROOT"],
    help="Directory of the host that has /dev.  [default: the driver root]",
)
@click.option(
    "--cdi-enabled/--no-cdi-enabled",
    "cdi",
    default=False,
    show_default=True,
    envvar=["CDI_ENABLED", "ENABLE_CDI"],
    help="Write the spec of all GPUs for the operator's own containers.",
)
@click.option(
    "--enable-cdi-in-runtime/--no-enable-cdi-in-runtime",
    "cdi_in_engine",
    default=None,
    envvar="RUNTIME_ENABLE_CDI",
    help="Enable CDI in the engine.  [default: as --cdi-enabled]",
)
@click.option(
    "--cdi-output-dir",
    type=DIRECTORY,
    default=SPEC_DIRECTORIES[-1],
    show_default=True,
    envvar="CDI_OUTPUT_DIR",
    help="Directory of the specs.",
)
@click.option(
    "--cdi-kind",
    type=TEXT,
    default=MANAGEMENT_KIND,
    show_default=True,
    envvar="CDI_KIND",
    help="Kind of that spec.",
)
@click.option(
    "--nvidia-container-runtime.mode",
    "mode",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    envvar="NVIDIA_CONTAINER_RUNTIME_MODE",
    help="How the handler resolves devices.",
)
@click.option(
    "--nvidia-container-runtime.log-level",
    "log_level",
    type=click.Choice(LOG_LEVELS),
    default="info",
    show_default=True,
    envvar="NVIDIA_CONTAINER_RUNTIME_LOG_LEVEL",
    help="Level of the shim's log.",
)
@click.option(
    "--nvidia-container-runtime.debug",
    "debug_log",
    type=PROGRAM,
    default="/dev/null",
    show_default=True,
    envvar="NVIDIA_CONTAINER_RUNTIME_DEBUG",
    help="The shim's log.",
)
@click.option(
    "--nvidia-container-runtime.runtimes",
    "runtimes",
    type=TEXT,
    envvar="NVIDIA_CONTAINER_RUNTIME_RUNTIMES",
    help="Low-level runtimes.  [default: that of the engine, runc, crun]",
)
@click.option(
    "--nvidia-container-runtime.modes.cdi.default-kind",
    "default_kind",
    type=TEXT,
    default="nvidia.com/gpu",
    show_default=True,
    envvar="NVIDIA_CONTAINER_RUNTIME_MODES_CDI_DEFAULT_KIND",
    help="Kind of devices without one.",
)
@click.option(
    "--nvidia-container-runtime.modes.cdi.annotation-prefixes",
    "annotation_prefixes",
    type=TEXT,
    default="cdi.k8s.io/",
    show_default=True,
    envvar="NVIDIA_CONTAINER_RUNTIME_MODES_CDI_ANNOTATION_PREFIXES",
    help="Annotations that the shim reads.",
)
@_for_config_toml(
    "nvidia-container-runtime-hook.skip-mode-detection", "skip_mode_detection", default=True
)
@_for_config_toml(
    "accept-nvidia-visible-devices-envvar-when-unprivileged", "accept_environment", default=True
)
@_for_config_toml("accept-nvidia-visible-devices-as-volume-mounts", "accept_mounts", default=False)
@click.option(
    "--config-mode",
    "crio_mode",
    type=click.Choice(CRIO_MODES),
    default="config",
    show_default=True,
    envvar="CRIO_CONFIG_MODE",
    help="CRI-O: register handlers, or run the prestart hook for all containers.",
)
@click.option(
    "--hooks-dir",
    type=DIRECTORY,
    default="/usr/share/containers/oci/hooks.d",
    show_default=True,
    envvar="CRIO_HOOKS_DIR",
    help="CRI-O: directory of the hook's file.",
)
@click.option(
    "--hook-filename",
    type=TEXT,
    default="oci-nvidia-hook.json",
    show_default=True,
    envvar="CRIO_HOOK_FILENAME",
    help="CRI-O: name of the hook's file.",
)
@click.option(
    "--pid-file",
    type=PROGRAM,
    default=PID_FILE,
    show_default=True,
    envvar=["TOOLKIT_PID_FILE", "PID_FILE"],
    help="File that one instance locks.",
)
@click.option(
    "-n",
    "--no-daemon/--daemon",
    "no_daemon",
    default=False,
    envvar="NO_DAEMON",
    help="End after the set-up, and undo nothing.",
)
@click.option(
    "--no-runtime-config/--runtime-config",
    "no_runtime_config",
    default=False,
    envvar="NO_RUNTIME_CONFIG",
    help="Install the programs, and configure no engine.",
)
@click.option(
    "-p",
    "--enable-nri-plugin/--no-enable-nri-plugin",
    "nri",
    default=False,
    envvar="ENABLE_NRI_PLUGIN",
    help="Not supported yet.",
)
def toolkit(
    *,
    root: str,
    bundle: str,
    runtime: str,
    configuration: str | None,
    drop_in: str | None,
    drop_in_on_host: str | None,
    executable: str | None,
    socket: str | None,
    restart_mode: str | None,
    runtime_name: str,
    set_as_default: bool,
    sources: str | None,
    host_root: str,
    driver_root: str,
    dev_root: str | None,
    cdi: bool,
    cdi_in_engine: bool | None,
    cdi_output_dir: str,
    cdi_kind: str,
    mode: str,
    log_level: str,
    debug_log: str,
    runtimes: str | None,
    default_kind: str,
    annotation_prefixes: str,
    skip_mode_detection: bool,
    accept_environment: bool,
    accept_mounts: bool,
    crio_mode: str,
    hooks_dir: str,
    hook_filename: str,
    pid_file: str,
    no_daemon: bool,
    no_runtime_config: bool,
    nri: bool,
) -> int:
    """Do what the toolkit container of NVIDIA's GPU Operator does, with its variables.

    The image that `toolkit.image` of the operator names starts this command as nvidia-toolkit. The
    programs stay on the host at the end, as NVIDIA's do.
    """
    if nri:
        raise CdiGenError(
            "the NRI plugin is not supported yet",
            hint="set cdi.nriPluginEnabled=false (ENABLE_NRI_PLUGIN=false)",
            code="CDG-N405",
        )
    if sources:
        console.note(f"--config-source {sources}: not needed, ignored", code="CDG-U101")
    settings = NodeSettings(
        host_root=host_root,
        root=root,
        bundle=bundle,
        engine=runtime,
        configuration=configuration,
        drop_in=drop_in,
        drop_in_on_host=drop_in_on_host,
        socket=socket,
        executable=executable,
        restart_mode=restart_mode,
        runtime_name=runtime_name,
        set_as_default=set_as_default,
        configure_engine=not no_runtime_config,
        enable_cdi_in_engine=cdi if cdi_in_engine is None else cdi_in_engine,
        crio_mode=crio_mode,
        hooks_directory=hooks_dir,
        hook_file=hook_filename,
        cdi=cdi,
        cdi_directory=cdi_output_dir,
        cdi_kind=cdi_kind,
        driver_root=driver_root,
        dev_root=dev_root,
        keep_programs=True,
        wait=not no_daemon,
        pid_file=pid_file,
        shim=ShimSettings(
            mode=mode,
            log_level=log_level,
            debug=debug_log,
            runtimes=words(runtimes or ""),
            default_kind=default_kind,
            annotation_prefixes=words(annotation_prefixes),
            accept_environment=accept_environment,
            accept_mounts=accept_mounts,
            skip_mode_detection=skip_mode_detection,
        ),
    )
    return kubernetes_node.run(settings, undo=False)
