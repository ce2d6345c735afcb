# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen kubernetes mps-control-daemon``."""

from __future__ import annotations

import gc
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from cdi_gen.catalogue import catalogue
from cdi_gen.cli import console
from cdi_gen.cli.go_flags import GoFlagsCommand
from cdi_gen.cli.host_options import DIRECTORY
from cdi_gen.cli.kubernetes_options import (
    DEV_ROOT,
    DRIVER_ROOT,
    HOST_ROOT,
    ConfigOptions,
    config_options,
    where_of,
)
from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.kubernetes.settings.model import MIG_STRATEGIES

if TYPE_CHECKING:
    from cdi_gen.cli.kubernetes_config import Configuration
    from cdi_gen.kubernetes.mps.loop import MpsLoop
    from cdi_gen.kubernetes.settings import Settings


@click.command(
    "mps-control-daemon", cls=GoFlagsCommand, short_help="Keep the control daemons of MPS."
)
@click.option(
    "--mig-strategy",
    type=click.Choice(MIG_STRATEGIES),
    envvar="MIG_STRATEGY",
    help="That of the device plugin.  [default: none]",
)
@DRIVER_ROOT
@DEV_ROOT
@HOST_ROOT
@click.option(
    "--mps-root",
    type=DIRECTORY,
    envvar="MPS_ROOT",
    help="Directory of the host for the control daemons of MPS.  [default: /run/nvidia/mps]",
)
@config_options("CONFIG_FILE")
def command(
    config: ConfigOptions,
    *,
    mig_strategy: str | None,
    driver_root: str | None,
    dev_root: str | None,
    host_root: str,
    mps_root: str | None,
) -> int:
    """Keep the control daemons of MPS in a container of their own.

    The processes of a container end with it, and with a daemon the pods that use it. So that an
    upgrade of the device plugin ends no pod, run this command in a DaemonSet of its own, with the
    settings of the device plugin, and the device plugin with --no-start-mps-daemons.
    """
    from cdi_gen.cli.kubernetes_config import Configuration  # noqa: PLC0415

    flags = {
        "mig_strategy": mig_strategy,
        "driver_root": driver_root,
        "dev_root": dev_root,
        "mps_root": mps_root,
    }
    _Keeping(Configuration(config), flags, host_root).run()
    return ExitCode.OK


class _Keeping:
    """The loop, with settings that can be read again."""

    def __init__(
        self, configuration: Configuration, flags: Mapping[str, object], host_root: str
    ) -> None:
        self._configuration = configuration
        self._flags = flags
        self._host_root = host_root
        self._loop: MpsLoop | None = None
        self._is_reloading = False
        self._is_stopping = False

    def run(self) -> None:
        """Keep the daemons until SIGTERM, SIGINT or SIGQUIT."""
        settings = self._load()
        gc.enable()  # the main function disables it, for commands that take 50 ms
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: self._end(reload=False))
        signal.signal(signal.SIGHUP, lambda *_: self._end(reload=True))
        self._configuration.follow(lambda: self._end(reload=True))
        while True:
            self._keep(settings)
            if self._is_stopping:
                return
            # Before the settings are read: a change during that is not lost.
            self._is_reloading = False
            try:
                settings = self._load()
            except CdiGenError as error:
                message = f"the settings stay as they are: {error.message}"
                console.warning(
                    message, code=error.code, hint=error.hint or "", subject=error.subject
                )

    def _load(self) -> Settings:
        from cdi_gen.kubernetes.settings.merge import merge  # noqa: PLC0415

        return merge(self._flags, self._configuration.read())

    def _keep(self, settings: Settings) -> None:
        from cdi_gen.kubernetes.mps.daemons import MpsDaemons  # noqa: PLC0415
        from cdi_gen.kubernetes.mps.directories import MpsRoot  # noqa: PLC0415
        from cdi_gen.kubernetes.mps.loop import MpsLoop  # noqa: PLC0415
        from cdi_gen.kubernetes.probe import ThisHost  # noqa: PLC0415
        from cdi_gen.programs import watch  # noqa: PLC0415

        host = ThisHost(where_of(settings, self._host_root), watch.of_catalogue(catalogue()))
        mps = MpsDaemons(MpsRoot(settings.mps_root, self._host_root), console.report)
        self._loop = MpsLoop(settings, host, mps, console.report)
        # A signal may have come before there was a loop to end.
        if not self._is_stopping and not self._is_reloading:
            self._loop.run()

    def _end(self, *, reload: bool) -> None:
        """End the loop; it may be called from a signal handler at any time."""
        self._is_reloading = self._is_reloading or reload
        self._is_stopping = self._is_stopping or not reload
        if self._loop is not None:
            self._loop.stop()
