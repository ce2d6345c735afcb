# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen kubernetes nri``."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cdi_base.cdi.names import fault_of_kind
from cdi_gen.cli import console
from cdi_gen.cli.go_flags import GoFlagsCommand
from cdi_gen.cli.host_options import PROGRAM, TEXT
from cdi_gen.cli.kubernetes_options import Words, require_packages
from cdi_gen.errors import ExitCode, UsageError
from cdi_gen.kubernetes.node.settings import MANAGEMENT_KIND

if TYPE_CHECKING:
    from cdi_gen.kubernetes.nri.plugin import Plugin

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--nri-socket",
        "socket_path",
        type=PROGRAM,
        envvar="NRI_SOCKET",
        help="Socket of the engine's NRI.  [default: /var/run/nri/nri.sock]",
    ),
    click.option(
        "--nri-plugin-index",
        "index",
        type=TEXT,
        envvar="NRI_PLUGIN_INDEX",
        default="10",
        show_default=True,
        help="The engine calls its plugins in the order of these numbers, from 0 to 99.",
    ),
    click.option(
        "--namespace",
        "--nri-namespace",
        "namespace",
        type=TEXT,
        envvar="NRI_NAMESPACE",
        help="Namespace of this pod, whose pods may request all devices of nvidia.com.  "
        "[default: none]",
    ),
    click.option(
        "--management-namespaces",
        "--nri-management-cdi-device-namespaces",
        "management_namespaces",
        type=Words(),
        envvar="NRI_MANAGEMENT_CDI_DEVICE_NAMESPACES",
        help="More namespaces whose pods may request all devices, also those that administer the "
        "node's GPUs (management.nvidia.com/gpu).  [default: none]",
    ),
    click.option(
        "--workload-namespaces",
        type=Words(),
        envvar="NRI_WORKLOAD_CDI_DEVICE_NAMESPACES",
        help="Namespaces whose pods may request the other devices of nvidia.com, without the "
        "scheduler; '*': every namespace.  [default: none]",
    ),
)

_KIND = click.option(
    "--cdi-kind",
    "cdi_kind",
    type=TEXT,
    envvar="CDI_KIND",
    default=MANAGEMENT_KIND,
    show_default=True,
    help="Kind of the devices that administer the node's GPUs, if `nvidia-toolkit` was told to "
    "write another one.",
)


def nri_options(command: F) -> F:
    """Add the options of the plugin to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    "nri", cls=GoFlagsCommand, short_help="Give CDI devices to pods that an annotation requests."
)
@nri_options
@_KIND
def command(
    *,
    socket_path: str | None,
    index: str,
    namespace: str | None,
    management_namespaces: tuple[str, ...] | None,
    workload_namespaces: tuple[str, ...] | None,
    cdi_kind: str,
) -> int:
    """Give CDI devices to pods that request them by an annotation.

    For clusters that forbid to change the engine's configuration: a plugin of the Node Resource
    Interface (NRI) of containerd 2 and CRI-O. The annotations are those of NVIDIA's NRI plugin:
    nvidia.cdi.k8s.io/container.NAME for a container, nvidia.cdi.k8s.io/pod for all containers.
    """
    plugin = plugin_of(
        socket_path, index, namespace, management_namespaces, workload_namespaces, cdi_kind
    )
    gc.enable()  # the main function disables it, for commands that take 50 ms
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: plugin.stop())
    plugin.run()
    return ExitCode.OK


def plugin_of(
    socket_path: str | None,
    index: str,
    namespace: str | None,
    management_namespaces: tuple[str, ...] | None,
    workload_namespaces: tuple[str, ...] | None,
    management_kind: str,
) -> Plugin:
    """Return the plugin for the values of the options.

    Raises:
        UsageError: an option has a value that it cannot have.
        CdiGenError: a package is not installed.
    """
    require_packages("google", "google.protobuf")
    from cdi_gen.kubernetes.nri.plugin import SOCKET, Plugin  # noqa: PLC0415
    from cdi_gen.kubernetes.nri.requests import EVERY_NAMESPACE, Permissions  # noqa: PLC0415

    if not (index.isascii() and index.isdigit() and int(index) <= 99):
        raise UsageError(
            f"--nri-plugin-index: {index!r} is not a number from 0 to 99",
            code="CDG-U003",
            subject="--nri-plugin-index",
        )
    management = frozenset((*(management_namespaces or ()), namespace or "")) - {""}
    if EVERY_NAMESPACE in management:
        raise UsageError(
            "'*' is not allowed in --management-namespaces",
            hint="name each namespace: its pods can administer all GPUs of the node",
            code="CDG-U003",
            subject="--management-namespaces",
        )
    fault = fault_of_kind(management_kind)
    if fault is not None:
        raise UsageError(
            f"--cdi-kind: {fault}",
            hint=f"write VENDOR/CLASS, for example {MANAGEMENT_KIND}",
            code="CDG-U003",
            subject="--cdi-kind",
        )
    permissions = Permissions(
        management=management,
        workload=frozenset(workload_namespaces or ()),
        management_kinds=frozenset({management_kind}),
    )
    return Plugin(socket_path or SOCKET, f"{int(index):02}", permissions, console.report)
