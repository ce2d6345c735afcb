# SPDX-License-Identifier: Apache-2.0
"""Podman, which supports CDI devices without configuration, rootful and rootless."""

from __future__ import annotations

from cdi_gen.engines import containers_conf, facts, hooks_d
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Plan, Request, reject_options
from cdi_gen.engines.status import EngineStatus
from cdi_gen.errors import UsageError

NAME = "podman"


def plan(request: Request, machine: Machine) -> Plan:
    """The changes for Podman; see `cdi_gen.engines.Engine`."""
    reject_options(NAME, request, "--config", "--executable-path")
    if request.hook and request.rootless:
        raise UsageError(
            "--oci-hook: Podman reads only the hooks of the machine, not a user's",
            code="CDG-E012",
        )
    plan = containers_conf.plan(NAME, facts.podman(), request, machine)
    if request.hook is None:
        return plan
    return plan._replace(changes=(*plan.changes, hooks_d.change(request.hook)))


def statuses(machine: Machine) -> list[EngineStatus]:
    """The status of Podman for this user."""
    return containers_conf.statuses(NAME, facts.podman(), machine)
