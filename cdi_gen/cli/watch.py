# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen watch``."""

from __future__ import annotations

import gc
import signal
import sys

import click

from cdi_gen.cli import CONFIGURATION, console
from cdi_gen.cli.host_options import TEXT, HostOptions, host_options
from cdi_gen.errors import ExitCode


@click.command("watch")
@click.option(
    "--unit",
    type=TEXT,
    help="Refresh by starting this unit of systemd, which has the rights for it.  [default: run "
    "`cdi-gen refresh`]",
)
@host_options
def command(host: HostOptions, /, *, unit: str | None) -> int:
    """Keep the CDI specs right while the host changes.

    The command runs until it is stopped. It refreshes the specs when the driver or a GPU appears or
    vanishes, MIG devices or device nodes change, libraries are installed, or a daemon of the driver
    creates its socket. It keeps no file of the driver open and does not use NVML, so that the
    driver can be replaced and a GPU be reset meanwhile.
    """
    from cdi_base.host_fingerprint import Layout  # noqa: PLC0415
    from cdi_gen.service_manager import ServiceManager  # noqa: PLC0415
    from cdi_gen.waking import Waker  # noqa: PLC0415
    from cdi_gen.watch.host_state import Observer  # noqa: PLC0415
    from cdi_gen.watch.loop import POLL_SECONDS, Loop  # noqa: PLC0415
    from cdi_gen.watch.refresher import ChildProcess, Unit  # noqa: PLC0415
    from cdi_gen.watch.uevents import uevents  # noqa: PLC0415

    directories = (*host.library_search_path, *host.config_search_path)
    layout = Layout(host.driver_root, host.dev_root or "", directories)
    observer = Observer(layout, host.host_root)
    events = uevents()
    if events is None:
        message = "the kernel's events cannot be received; changes are found by reading the host"
        console.note(f"{message} every {POLL_SECONDS:.0f} s", code="CDG-W102")
    waker = Waker(
        *observer.directories(),
        sources=[events] if events else [],
        poll_seconds=POLL_SECONDS,
    )
    refresher = Unit(unit) if unit else ChildProcess(_command(host))
    loop = Loop(observer, waker, refresher, ServiceManager(), console.report)
    gc.enable()  # the main function disables it, for commands that take 50 ms
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: loop.stop())
    try:
        loop.run()
    finally:
        waker.close()
    return ExitCode.OK


def _command(host: HostOptions) -> list[str]:
    """Return the command line of a refresh with the same layout of the host."""
    config = click.get_current_context().meta.get(CONFIGURATION)
    words = [sys.executable, "-m", "cdi_gen", *(("--config", config) if config else ()), "refresh"]
    words += ["--force", "--host-root", host.host_root, "--driver-root", host.driver_root]
    if host.dev_root:
        words += ["--dev-root", host.dev_root]
    for directory in host.library_search_path:
        words += ["--library-search-path", directory]
    for directory in host.config_search_path:
        words += ["--config-search-path", directory]
    if host.hook_path:
        words += ["--nvidia-cdi-hook-path", host.hook_path]
    return words
