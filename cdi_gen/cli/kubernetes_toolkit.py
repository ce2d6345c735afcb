# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen kubernetes toolkit``: the toolkit container of NVIDIA's GPU Operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdi_gen.cli import console, kubernetes_node, kubernetes_nri
from cdi_gen.cli.go_flags import GoFlagsCommand
from cdi_gen.cli.kubernetes_toolkit_options import toolkit_options
from cdi_gen.kubernetes.node.settings import NodeSettings, ShimSettings, words

if TYPE_CHECKING:
    from cdi_gen.kubernetes.node.service import Service


@click.command(
    "toolkit",
    cls=GoFlagsCommand,
    short_help="The same as the toolkit container of NVIDIA's GPU Operator.",
)
@toolkit_options
@kubernetes_nri.nri_options
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
    socket_path: str | None,
    index: str,
    namespace: str | None,
    management_namespaces: tuple[str, ...] | None,
    workload_namespaces: tuple[str, ...] | None,
) -> int:
    """Do what the toolkit container of NVIDIA's GPU Operator does, with its variables.

    The image that `toolkit.image` of the operator names starts this command as nvidia-toolkit. The
    programs stay on the host at the end, as NVIDIA's do. With --enable-nri-plugin no engine is
    configured: the command serves the plugin of `cdi-gen kubernetes nri`.
    """
    service: Service | None = None
    if nri:
        service = kubernetes_nri.plugin_of(
            socket_path, index, namespace, management_namespaces, workload_namespaces, cdi_kind
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
        configure_engine=not no_runtime_config and not nri,
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
    return kubernetes_node.run(settings, undo=False, service=service)
