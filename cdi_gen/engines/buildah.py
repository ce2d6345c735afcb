# SPDX-License-Identifier: Apache-2.0
"""Buildah, which reads Podman's configuration: ``buildah build --device``."""

from __future__ import annotations

from cdi_gen.engines import containers_conf, facts
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Plan, Request, reject_options
from cdi_gen.engines.status import EngineStatus

NAME = "buildah"


def plan(request: Request, machine: Machine) -> Plan:
    """The changes for Buildah; see `cdi_gen.engines.Engine`."""
    reject_options(NAME, request, "--config", "--executable-path", "--oci-hook")
    return containers_conf.plan(NAME, facts.buildah(), request, machine)


def statuses(machine: Machine) -> list[EngineStatus]:
    """The status of Buildah for this user."""
    return containers_conf.statuses(NAME, facts.buildah(), machine)
