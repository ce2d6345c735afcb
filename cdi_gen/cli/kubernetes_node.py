# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen kubernetes setup-node``."""

from __future__ import annotations

import gc
import os
import signal
import threading
from typing import TYPE_CHECKING

import click

from cdi_gen.cli import console
from cdi_gen.cli.go_flags import GoFlagsCommand
from cdi_gen.cli.host_options import DIRECTORY, PROGRAM, TEXT
from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.kubernetes.node.settings import (
    BUNDLE,
    ENGINES,
    MODES,
    PID_FILE,
    RESTART_MODES,
    NodeSettings,
    ShimSettings,
)

if TYPE_CHECKING:
    from cdi_gen.kubernetes.node.service import Service


@click.command(
    "setup-node", cls=GoFlagsCommand, short_help="Set up this host's engine for GPU pods."
)
@click.option(
    "--host-root",
    type=DIRECTORY,
    default="/",
    show_default=True,
    help="Directory in which the host's root is mounted, in a container.",
)
@click.option(
    "--root",
    type=DIRECTORY,
    help="Directory of the host for the programs, which get DIR/toolkit.  [default: "
    "/usr/local/nvidia, or that of the host's system]",
)
@click.option(
    "--bundle",
    type=DIRECTORY,
    default=BUNDLE,
    show_default=True,
    help="Directory with the programs and their interpreter. Without it the host's Python is used.",
)
@click.option(
    "--runtime",
    type=click.Choice(ENGINES),
    help="The engine to configure.  [default: the one that runs]",
)
@click.option(
    "--config",
    "configuration",
    type=PROGRAM,
    help="The engine's configuration file.  [default: that of the host's distribution]",
)
@click.option(
    "--drop-in",
    type=PROGRAM,
    help="The drop-in file of containerd or CRI-O.  [default: beside the configuration]",
)
@click.option(
    "--socket",
    type=PROGRAM,
    help="The engine's socket.  [default: that of the host's distribution]",
)
@click.option(
    "--restart-mode",
    type=click.Choice(RESTART_MODES),
    help="How the engine reads its configuration again.  [default: systemd for CRI-O, else signal]",
)
@click.option(
    "--runtime-name",
    type=TEXT,
    default="nvidia",
    show_default=True,
    help="Name of the handler; NAME-cdi and NAME-legacy are registered too.",
)
@click.option(
    "--set-as-default/--no-set-as-default",
    default=False,
    help="Use the handler also for pods without a RuntimeClass.  [default: no]",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    help="How the handler NAME resolves devices.",
)
@click.option(
    "--driver-root",
    type=DIRECTORY,
    default="/",
    show_default=True,
    help="Directory of the host that has the driver.",
)
@click.option(
    "--dev-root",
    type=DIRECTORY,
    help="Directory of the host that has /dev.  [default: the driver root]",
)
@click.option(
    "--hook-free",
    is_flag=True,
    help="Install no program, configure no engine; only write specs without hooks.",
)
@click.option(
    "--keep-programs",
    is_flag=True,
    help="Leave the programs on the host at the end, for pods that start during an upgrade.",
)
@click.option("--no-daemon", is_flag=True, help="End after the set-up, and undo nothing.")
@click.option("--undo", is_flag=True, help="Undo an earlier set-up, with its programs, and end.")
@click.option(
    "--pid-file",
    type=PROGRAM,
    help=f"File that one instance locks.  [default: {PID_FILE} of the host]",
)
def setup_node(
    *,
    host_root: str,
    root: str | None,
    bundle: str,
    runtime: str | None,
    configuration: str | None,
    drop_in: str | None,
    socket: str | None,
    restart_mode: str | None,
    runtime_name: str,
    set_as_default: bool,
    mode: str,
    driver_root: str,
    dev_root: str | None,
    hook_free: bool,
    keep_programs: bool,
    no_daemon: bool,
    undo: bool,
    pid_file: str | None,
) -> int:
    """Install hook and runtime shim on this host, and register them with its container engine.

    The command waits for SIGTERM and then undoes what it did. It must run as root; in a container,
    privileged, with hostPID and the host's root at --host-root.
    """
    settings = NodeSettings(
        host_root=host_root,
        root=root,
        bundle=bundle,
        engine=runtime,
        configuration=configuration,
        drop_in=drop_in,
        socket=socket,
        restart_mode=restart_mode,
        runtime_name=runtime_name,
        set_as_default=set_as_default,
        driver_root=driver_root,
        dev_root=dev_root,
        hooks=not hook_free,
        keep_programs=keep_programs,
        wait=not no_daemon,
        pid_file=pid_file or host_root.rstrip("/") + PID_FILE,
        shim=ShimSettings(mode=mode),
    )
    return run(settings, undo=undo)


def run(settings: NodeSettings, *, undo: bool, service: Service | None = None) -> int:
    """Set the node up until a signal, or undo an earlier set-up; return the exit code."""
    if os.geteuid() != 0:
        raise CdiGenError(
            "only root can set up a node",
            hint="run the command as root, or in a privileged container",
            code="CDG-N408",
        )
    stopped = threading.Event()
    if not undo:
        gc.enable()  # the main function disables it, for commands that take 50 ms
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, lambda *_: stopped.set())
    from cdi_gen.kubernetes.node.setup import NodeSetup  # noqa: PLC0415

    setup = NodeSetup(settings, console.report, stopped, service)
    if undo:
        setup.undo()
    else:
        setup.run()
    return ExitCode.OK
