# SPDX-License-Identifier: Apache-2.0
"""Podman, which takes CDI devices by itself, rootful and rootless."""

from __future__ import annotations

from cdi_gen.engines import containers_conf, hooks_d
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Finding, Plan, Wishes, refuse
from cdi_gen.errors import UsageError

PODMAN = containers_conf.Reader(
    "podman",
    first_with_cdi=(4, 1),
    first_told=(5, 4),  # by the buildah in it
    first_told_to_run=(5, 5),  # podman#25717
    first_with_both=(5, 6),  # podman#26569
)


def plan(wishes: Wishes, machine: Machine) -> Plan:
    """What is to be done for Podman."""
    refuse(PODMAN.name, wishes, "--config", "--executable-path")
    if wishes.hook and wishes.rootless:
        raise UsageError("--oci-hook: Podman reads hooks of the machine alone, not of a user")
    made = containers_conf.plan(PODMAN, wishes, machine)
    if wishes.hook is None:
        return made
    return made._replace(changes=(*made.changes, hooks_d.change(wishes.hook)))


def findings(machine: Machine) -> list[Finding]:
    """Podman as it is for this user."""
    return containers_conf.findings(PODMAN, machine)
