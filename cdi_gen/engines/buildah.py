# SPDX-License-Identifier: Apache-2.0
"""Buildah, which reads Podman's configuration: ``buildah build --device``."""

from __future__ import annotations

from cdi_gen.engines import containers_conf
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Finding, Plan, Wishes, refuse

BUILDAH = containers_conf.Reader(
    "buildah",
    first_with_cdi=(1, 39),
    first_told=(1, 39),
    first_told_to_run=(1, 39),
    first_with_both=(1, 41),
)


def plan(wishes: Wishes, machine: Machine) -> Plan:
    """What is to be done for Buildah."""
    refuse(BUILDAH.name, wishes, "--config", "--executable-path", "--oci-hook")
    return containers_conf.plan(BUILDAH, wishes, machine)


def findings(machine: Machine) -> list[Finding]:
    """Buildah as it is for this user."""
    return containers_conf.findings(BUILDAH, machine)
