# SPDX-License-Identifier: Apache-2.0
"""Runs the device plugin of ``cdi-gen kubernetes device-plugin`` until a signal ends it."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cdi_gen.catalogue import catalogue
from cdi_gen.cli import console
from cdi_gen.cli.kubernetes_config import Configuration
from cdi_gen.cli.kubernetes_options import require_packages, where_of
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.kubernetes.probe import ThisHost
from cdi_gen.kubernetes.settings.merge import merge
from cdi_gen.programs import watch

if TYPE_CHECKING:
    from cdi_gen.kubernetes.health.watcher import Health
    from cdi_gen.kubernetes.metrics import Metrics
    from cdi_gen.kubernetes.plugin.observer import Observer
    from cdi_gen.kubernetes.plugin.supervisor import Supervisor
    from cdi_gen.kubernetes.settings import Settings


class Serving:
    """The device plugin, with settings that can be read again.

    Args:
        configuration: the config file.
        flags: the flags of the command line, by the names of the settings.
        host_root: the path of the host's ``/`` for this process.
        starts_mps: whether the control daemons of MPS are started, or waited for.
        metrics_address: where metrics are served; None: nowhere.
        node_events: whether Events of the node are created.
    """

    def __init__(
        self,
        configuration: Configuration,
        flags: Mapping[str, object],
        *,
        host_root: str,
        starts_mps: bool,
        metrics_address: str | None,
        node_events: bool,
    ) -> None:
        self._configuration = configuration
        self._flags = flags
        self._host_root = host_root
        self._starts_mps = starts_mps
        self._metrics_address = metrics_address
        self._node_events = node_events
        self._supervisor: Supervisor | None = None
        self._is_reloading = False
        self._is_stopping = False

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGQUIT, with the settings read again when they change.

        Raises:
            CdiGenError: the settings are not valid at the start, or the host cannot be examined and
                the settings say that this is an error.
        """
        # The core of gRPC logs each connection that the kubelet closes.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        # Its handlers of fork are for programs that go on using gRPC in the child.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        settings = self._load()
        host = self._host(settings)
        # gRPC and the other modules take 100 ms to import, which the host needs to answer.
        host.ask_early()
        observer = self._observer()
        gc.enable()  # the main function disables it, for commands that take 50 ms
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: self._end(reload=False))
        signal.signal(signal.SIGHUP, lambda *_: self._end(reload=True))
        health = _health(self._host_root)
        self._configuration.follow(lambda: self._end(reload=True))
        while True:
            self._serve(settings, host, observer, health)
            if self._is_stopping or not self._is_reloading:
                return
            # Before the settings are read: a change during that is not lost.
            self._is_reloading = False
            settings = self._reloaded(settings)
            host = self._host(settings)

    def _load(self) -> Settings:
        return merge(self._flags, self._configuration.read())

    def _observer(self) -> Observer:
        from cdi_gen.kubernetes.plugin.observer import Observers  # noqa: PLC0415

        observers: list[Observer] = []
        if self._metrics_address:
            observers.append(_metrics(self._metrics_address))
        if self._node_events:
            observers += _node_events(self._configuration)
        return Observers(*observers)

    def _host(self, settings: Settings) -> ThisHost:
        where = where_of(settings, self._host_root)
        return ThisHost(where, watch.of_catalogue(catalogue()))

    def _serve(
        self, settings: Settings, host: ThisHost, observer: Observer, health: Health
    ) -> None:
        from cdi_gen.kubernetes.mps.daemons import MpsDaemons  # noqa: PLC0415
        from cdi_gen.kubernetes.mps.directories import MpsRoot  # noqa: PLC0415
        from cdi_gen.kubernetes.plugin.supervisor import Supervisor  # noqa: PLC0415

        root = MpsRoot(settings.mps_root, self._host_root)
        mps = MpsDaemons(root, console.report, observer, starts=self._starts_mps)
        self._supervisor = Supervisor(settings, host, console.report, observer, health, mps)
        # A signal may have come before there was a supervisor to end.
        if not self._is_stopping and not self._is_reloading:
            self._supervisor.run()

    def _reloaded(self, settings: Settings) -> Settings:
        """Return the settings read again; those of before if they are not valid now."""
        try:
            return self._load()
        except CdiGenError as error:
            console.warning(
                f"the settings stay as they are: {error.message}",
                code=error.code,
                hint=error.hint or "",
                subject=error.subject,
            )
            return settings

    def _end(self, *, reload: bool) -> None:
        """End the supervisor; it may be called from a signal handler at any time."""
        self._is_reloading = self._is_reloading or reload
        self._is_stopping = self._is_stopping or not reload
        if self._supervisor is not None:
            self._supervisor.stop()


def _health(host_root: str) -> Health:
    """Return what watches the devices: one for all settings, so that it forgets nothing."""
    from cdi_gen.kubernetes.health.watcher import HealthWatcher, Unwatched  # noqa: PLC0415
    from cdi_gen.kubernetes.health.xids import rules  # noqa: PLC0415

    disabled, enabled = (
        os.environ.get(f"DP_{verb}_HEALTHCHECKS", "") for verb in ("DISABLE", "ENABLE")
    )
    health_rules = rules(disabled, enabled)
    return HealthWatcher(host_root, health_rules) if health_rules.checks else Unwatched()


def _node_events(configuration: Configuration) -> list[Observer]:
    """Return what creates Events; nothing if there is no access to the cluster."""
    node = configuration.options.node_name
    if not node:
        raise UsageError(
            "--node-events is given, and the name of the node is not",
            hint="give --node-name, or NODE_NAME from the field spec.nodeName of the pod",
            code="CDG-N003",
            subject="--node-name",
        )
    require_packages("urllib3")
    from cdi_gen.kubernetes.access import AccessError, find_access  # noqa: PLC0415
    from cdi_gen.kubernetes.api import Api  # noqa: PLC0415
    from cdi_gen.kubernetes.node_events import NodeEvents  # noqa: PLC0415

    try:
        api = Api(find_access(configuration.options.kubeconfig or ""))
    except AccessError as error:
        message = f"no Events of the node are created: {error.message}"
        console.warning(message, code="CDG-N122", hint=error.hint or "", subject=node)
        return []
    return [NodeEvents(api, node, console.report)]


def _metrics(address: str) -> Metrics:
    """Serve metrics at an address; return what counts."""
    name, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(
            f"--metrics-address: {address!r} has no port",
            hint="write [HOST]:PORT, for example :9400",
            code="CDG-U003",
            subject="--metrics-address",
        )
    require_packages("prometheus_client")
    from cdi_gen.kubernetes.metrics import Metrics  # noqa: PLC0415

    metrics = Metrics()
    try:
        metrics.serve(name.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - pods' network
    except OSError as error:
        raise CdiGenError(
            f"cannot serve metrics at {address}: {error.strerror or error}",
            hint="give another port with --metrics-address",
            code="CDG-N007",
            subject=address,
        ) from error
    return metrics
