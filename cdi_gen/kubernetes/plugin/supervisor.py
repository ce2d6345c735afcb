# SPDX-License-Identifier: Apache-2.0
"""Keeps the node as it should be: specs written, resources served, registered and up to date.

The loop compares and changes: it holds what the host has (facts), what is broken (health) and which
kubelet runs, and brings specs and servers in line with them. So a driver that is loaded later, MIG
devices that come and go, a kubelet that starts again and a GPU that recovers are all the same case.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import findings as inventory_findings
from cdi_gen.kubernetes.health.judge import Change
from cdi_gen.kubernetes.health.watcher import Health, Unwatched
from cdi_gen.kubernetes.mps.daemons import Mps, NoMps
from cdi_gen.kubernetes.plugin import messages
from cdi_gen.kubernetes.plugin.observer import Observer, Observers
from cdi_gen.kubernetes.plugin.registration import RegistrationError, identity, register
from cdi_gen.kubernetes.plugin.server import ResourceServer, State
from cdi_gen.kubernetes.plugin.specs import SpecFile, spec_files, write_specs
from cdi_gen.kubernetes.probe import Facts, Host
from cdi_gen.kubernetes.reports import Report, Reports, pause
from cdi_gen.kubernetes.resources.advertise import advertise
from cdi_gen.kubernetes.resources.allocation import Node, imex_channels
from cdi_gen.kubernetes.resources.links import Scores
from cdi_gen.kubernetes.settings import Settings
from cdi_gen.kubernetes.settings.model import DEVICE_PLUGINS
from cdi_gen.waking import Waker

WATCH_DELAY = 5.0
"""Seconds that the kubelet has after a registration to call ListAndWatch; it does so at once."""

PROBE_INTERVAL = 5.0
"""Seconds between two looks whether the host has changed."""


class Supervisor:
    """Runs the device plugin until `stop`.

    Args:
        settings: the plugin's settings.
        host: where facts come from.
        report: prints a finding; each one is printed once until it changes.
        observer: counts what happens.
        health: watches the devices.
        mps: keeps the control daemons of MPS.
    """

    def __init__(
        self,
        settings: Settings,
        host: Host,
        report: Report,
        observer: Observer | None = None,
        health: Health | None = None,
        mps: Mps | None = None,
    ) -> None:
        self._settings = settings
        self._host = host
        self._report = report
        self._observer: Observer = observer or Observers()
        self._health: Health = health or Unwatched()
        self._mps: Mps = mps or NoMps()
        self._directory = os.path.dirname(settings.kubelet_socket) or DEVICE_PLUGINS
        self._waker = Waker(self._directory)
        self._stopping = False
        self._lock = threading.Lock()
        self._facts: Facts | None = None
        self._new_facts: Facts | CdiGenError | None = None
        self._fingerprint: object = None
        self._probing = False
        self._next_probe = 0.0
        self._failed_probes = 0
        self._written: tuple[SpecFile, ...] = ()
        self._states: dict[str, State] = {}
        self._servers: dict[str, ResourceServer] = {}
        self._unregistered: dict[str, int] = {}
        """The resources that the kubelet does not have yet, and the number of attempts."""
        self._next_registration = 0.0
        self._registered: dict[str, float] = {}
        """When the kubelet accepted each resource."""
        self._unwatched: dict[str, int] = {}
        """How often each resource was registered without effect: the kubelet does not listen."""
        self._next_start = 0.0
        self._kubelet: tuple[int, int, int] | None = None
        self._unhealthy: dict[str, Finding] = {}
        self._reports = Reports(report)

    def stop(self) -> None:
        """End `run` soon. It may be called from a signal handler."""
        self._stopping = True
        self._waker.wake()

    def probe_again(self) -> None:
        """Examine the host again, although it does not look changed."""
        self._fingerprint = None
        self._next_probe = 0.0
        self._waker.wake()

    def health_changed(self, change: Change) -> None:
        """Note that a device became usable or unusable."""
        with self._lock:
            before = self._unhealthy.pop(change.uuid, None)
            if not change.healthy:
                self._unhealthy[change.uuid] = change.finding
        if (before is None) != change.healthy:
            self._report(change.finding)
            self._observer.health_changed(change)
        self._waker.wake()

    def run(self) -> None:
        """Serve until `stop` is called.

        Raises:
            CdiGenError: the host cannot be examined at the start, and the settings say that this is
                an error.
        """
        try:
            while not self._stopping:
                self.step(time.monotonic())
                self._waker.wait(self._seconds_until_due(time.monotonic()))
        finally:
            self.close()

    def close(self) -> None:
        """End what `step` has begun; `run` does it itself."""
        self._health.stop()
        self._mps.stop()
        for server in self._servers.values():
            server.stop()
        self._waker.close()

    def step(self, now: float) -> None:
        """Do what is due at this time, on the clock of `time.monotonic`."""
        self._probe(now)
        self._take_facts(now)
        self._follow_kubelet(now)
        self._update_servers(now)
        self._follow_watches(now)
        self._register(now)

    def _seconds_until_due(self, now: float) -> float:
        """Return the time until a step has something to do, if nothing happens before."""
        due = now + PROBE_INTERVAL if self._probing else self._next_probe
        if self._unregistered and self._kubelet is not None:
            due = min(due, self._next_registration)
        if self._servers.keys() != self._states.keys():
            due = min(due, self._next_start)
        return max(due - now, 0.1)

    def _probe(self, now: float) -> None:
        """Start a probe in a thread if the host has changed, or if the last probe failed."""
        if self._probing or now < self._next_probe:
            return
        self._next_probe = now + PROBE_INTERVAL
        fingerprint = self._host.fingerprint()
        if fingerprint == self._fingerprint and not self._failed_probes:
            return
        self._fingerprint = fingerprint
        self._probing = True
        try:
            threading.Thread(target=self._ask_host, name="probe", daemon=True).start()
        except RuntimeError as error:  # the limit of threads
            self._new_facts = CdiGenError(_unexamined(error), code="CDG-N108")

    def _ask_host(self) -> None:
        outcome: Facts | CdiGenError
        try:
            outcome = self._host.facts()
        except CdiGenError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001 - without an outcome there is no further probe
            outcome = CdiGenError(_unexamined(error), code="CDG-N108")
        with self._lock:
            self._new_facts = outcome
        self._waker.wake()

    def _take_facts(self, now: float) -> None:
        with self._lock:
            outcome, self._new_facts = self._new_facts, None
        if outcome is None:
            return
        self._probing = False
        if isinstance(outcome, Facts):
            self._failed_probes = 0
            self._facts = outcome
            try:
                self._advertise(outcome)
                self._health.watch(outcome.inventory, self.health_changed, self._report)
            except CdiGenError as error:
                outcome = error
        if isinstance(outcome, CdiGenError):
            if self._facts is None and self._settings.fail_on_init_error:
                raise outcome
            self._next_probe = now + pause(self._failed_probes)
            self._failed_probes += 1
            self._health.host_failed(outcome)
            self._reports.update("host", _waiting(outcome))
        else:
            self._reports.update("host")

    def _advertise(self, facts: Facts) -> None:
        """Write the specs of these facts, and set the states of the resources."""
        inventory, settings = facts.inventory, self._settings
        files = spec_files(inventory, settings)
        if files != self._written:
            write_specs(files)
            self._written = files
        advertised = advertise(inventory, facts.properties, settings)
        lengths = {item.name: messages.length_finding(item) for item in advertised.resources}
        resources = tuple(item for item in advertised.resources if lengths[item.name] is None)
        node = Node(
            control_nodes=tuple(node.path for node in inventory.control_nodes if node.present),
            imex_channels=imex_channels(inventory, settings),
            cdi_transports=tuple(file.spec.kind.partition("/")[2] for file in files),
        )
        scores = Scores(facts.properties.links)
        self._states = {
            resource.name: State(resource=resource, settings=settings, node=node, scores=scores)
            for resource in resources
        }
        self._mps.want(resources, inventory, self._waker.wake)
        found = inventory_findings.findings(inventory)
        too_long = filter(None, lengths.values())
        self._reports.update("devices", *found, *advertised.findings, *too_long)

    def _follow_kubelet(self, now: float) -> None:
        """Serve on new sockets if the kubelet has started again, which deletes the old ones."""
        if not self._settings.kubelet_socket:
            return
        kubelet = identity(self._settings.kubelet_socket)
        if kubelet != self._kubelet:
            self._kubelet = kubelet
            for name in self._servers.keys() - self._states.keys():
                self._servers.pop(name).stop()
            self._unregistered = dict.fromkeys(self._servers, 0)
            self._next_registration = now
        self._reports.update("kubelet", *(() if kubelet else (_no_kubelet(self._settings),)))
        self._reports.update("directory", *self._waker.findings())

    def _update_servers(self, now: float) -> None:
        """Bring the servers in line with the states.

        A resource without devices is served with an empty list, because the kubelet would keep the
        devices of a plugin that ends as unhealthy ones for five minutes.
        """
        with self._lock:
            unhealthy = frozenset(self._unhealthy) | self._mps.unusable()
        for name in self._servers.keys() - self._states.keys():
            state = self._servers[name].state
            self._update(name, replace(state, resource=replace(state.resource, devices=())))
        for name, wanted in self._states.items():
            state = replace(wanted, unhealthy=unhealthy)
            server = self._servers.get(name)
            if server is not None and server.is_listening():
                self._update(name, state)
            elif server is not None and server.is_superseded():
                self._unregistered.pop(name, None)
                self._reports.update(f"socket of {name}", _superseded(server))
            elif now >= self._next_start:
                self._start(name, state, now)

    def _update(self, name: str, state: State) -> None:
        if self._servers[name].state != state:
            self._servers[name].update(state)
            self._observe(name, state)

    def _start(self, name: str, state: State, now: float) -> None:
        """Serve a resource on a new socket, or say why that is not possible and try again later."""
        if name in self._servers:
            self._servers.pop(name).stop()
        server = ResourceServer(state, self._directory, self._observer, self._waker.wake)
        try:
            server.start()
        except CdiGenError as error:
            self._next_start = now + pause(0)
            self._reports.update(f"socket of {name}", error.finding)
            return
        self._reports.update(f"socket of {name}")
        self._servers[name] = server
        self._unregistered[name] = 0
        self._next_registration = now
        self._observe(name, state)

    def _observe(self, name: str, state: State) -> None:
        devices = state.resource.devices
        broken = sum(device.uuid in state.unhealthy for device in devices)
        self._observer.devices(name, len(devices) - broken, broken)

    def _follow_watches(self, now: float) -> None:
        """Register again what the kubelet does not listen to any more.

        A kubelet whose call of ListAndWatch has failed takes the devices for unhealthy ones, and
        does not call again by itself.
        """
        if self._kubelet is None:
            return
        for name in self._servers.keys() - self._unregistered.keys():
            server = self._servers[name]
            if server.is_watched():
                self._unwatched.pop(name, None)
                continue
            times = self._unwatched.get(name, 0)
            due = self._registered.get(name, 0.0) + max(WATCH_DELAY, pause(times))
            if now >= due and server.is_listening():
                self._unwatched[name] = times + 1
                self._unregistered[name] = 0
                self._next_registration = now
                message = f"the kubelet does not listen to the devices of {name} any more"
                self._reports.update(
                    f"registration of {name}", Finding("CDG-N112", "warning", message, subject=name)
                )

    def _register(self, now: float) -> None:
        if not self._unregistered or self._kubelet is None or now < self._next_registration:
            return
        for name in self._servers.keys() & self._unregistered.keys():
            if not self._servers[name].is_listening():
                continue  # a newer plugin has the socket, or it will be made again
            finding = self._registration(name)
            if finding.severity == "info":
                del self._unregistered[name]
                self._registered[name] = now
                self._observer.registered(name)
            else:
                self._next_registration = now + pause(self._unregistered[name])
                self._unregistered[name] += 1
            self._reports.update(f"registration of {name}", finding)

    def _registration(self, name: str) -> Finding:
        """Register a resource; return whether the kubelet accepted it, or why not."""
        server = self._servers[name]
        try:
            register(server, self._settings.kubelet_socket)
        except RegistrationError as error:
            return Finding("CDG-N104", "warning", error.message, subject=error.subject)
        count = len(server.state.resource.devices)
        devices = f"{count} device{'s' * (count != 1)}"
        return Finding("CDG-N110", "info", f"{name} is registered, {devices}", subject=name)


def _unexamined(error: Exception) -> str:
    return f"the host cannot be examined: {type(error).__name__}: {error}"


def _waiting(error: CdiGenError) -> Finding:
    """Return the finding that the plugin waits for the host, and why."""
    return Finding(
        error.code,
        "warning",
        f"waiting for usable GPUs: {error.message}",
        subject=error.subject,
        fix=error.hint or "",
    )


def _superseded(server: ResourceServer) -> Finding:
    resource = server.state.resource.name
    return Finding(
        "CDG-N114",
        "warning",
        f"another device plugin serves {resource}: this one waits until it ends",
        subject=server.path,
        fix="Remove one of the two, unless the node's plugin is being upgraded.",
    )


def _no_kubelet(settings: Settings) -> Finding:
    return Finding(
        "CDG-N109",
        "warning",
        f"waiting for the kubelet: {settings.kubelet_socket} does not exist",
        subject=settings.kubelet_socket,
        fix="Start the kubelet, or mount its directory into the container.",
    )
