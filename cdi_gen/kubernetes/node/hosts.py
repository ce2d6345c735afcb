# SPDX-License-Identifier: Apache-2.0
"""What is known of hosts: `specs/cdi_specs/kubernetes_hosts.json`, and which of it a host is."""

from __future__ import annotations

import json
import shlex
from functools import cache
from typing import NamedTuple

import cdi_specs
from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root

DEFAULT_ROOT = "/usr/local/nvidia"


class Distribution(NamedTuple):
    """An engine as a Kubernetes distribution has it."""

    name: str
    engine: str
    detect: tuple[str, ...]
    """Paths of which one exists on a host of this distribution."""
    configuration: str
    socket: str
    units: tuple[str, ...]
    """The units of systemd that run the engine; a host has one of them."""


class System(NamedTuple):
    """An operating system on which the default directory cannot be used."""

    id: str
    """`ID` of os-release(5)."""
    name: str
    root: str | None
    """A directory for programs; None: programs cannot be installed."""
    reason: str


@cache
def distributions() -> tuple[Distribution, ...]:
    """Return the distributions, those with their own engine first."""
    return tuple(
        Distribution(
            name=row["name"],
            engine=row["engine"],
            detect=tuple(row["detect"]),
            configuration=row["configuration"],
            socket=row["socket"],
            units=tuple(row["units"]),
        )
        for row in _document()["distributions"]
    )


@cache
def systems() -> tuple[System, ...]:
    """Return the operating systems that differ."""
    return tuple(
        System(row["id"], row["name"], row["root"], row["reason"]) for row in _document()["systems"]
    )


@cache
def _document() -> dict[str, list[dict[str, str]]]:
    document: dict[str, list[dict[str, str]]] = json.loads(
        cdi_specs.read_text("kubernetes_hosts.json")
    )
    return document


def system_of(host: Root) -> System | None:
    """Return the operating system of a host, if it is one that differs."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = host.read_text(path, 1 << 16).splitlines()
        except OSError:
            continue
        values = dict(line.partition("=")[::2] for line in lines)
        try:
            words = shlex.split(values.get("ID", ""))
        except ValueError:
            words = []
        return next((row for row in systems() if [row.id] == words), None)
    return None


def distribution_of(
    host: Root, engine: str | None, named: str | None, socket: str | None = None
) -> Distribution:
    """Return the distribution whose engine is to be configured.

    Args:
        host: the host's root.
        engine: the engine that the user names.
        named: a file of its configuration that the user names.
        socket: the socket that the user names.

    A file that the user names decides; else the socket; else the engine whose socket exists; else
    the only one whose configuration exists.

    Raises:
        CdiGenError: the host has none of the engines, or several.
    """
    rows = [row for row in distributions() if engine in {None, row.engine}]
    if named:
        # The usual containerd, CRI-O or Docker for a file of no distribution.
        matches = [row for row in rows if _is_beside(named, row)]
        return (matches or [row for row in rows if not _is_kubernetes(row)] or rows)[0]
    if socket:
        path = socket.replace("/var/run/", "/run/", 1)
        rows = [row for row in rows if row.socket == path] or rows
    present = [row for row in rows if any(map(host.exists, row.detect))]
    running = [row for row in present if host.exists(row.socket)]
    candidates = running or present
    # k3s and RKE2 have the same socket, and Docker brings a containerd that no kubelet uses.
    names = {row.name for row in candidates}
    if engine is None and names == {"containerd", "Docker"}:
        candidates = [row for row in candidates if row.name == "containerd"]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        wanted = engine or "containerd, CRI-O or Docker"
        raise CdiGenError(
            f"the host has no {wanted} that could be configured",
            hint="is the host's root at --host-root? Name the engine with --runtime, and its file "
            "with --config",
            code="CDG-N404",
        )
    raise CdiGenError(
        f"the host has several engines: {', '.join(row.name for row in candidates)}",
        hint="name the kubelet's with --runtime, and its socket with --socket or its file with "
        "--config",
        code="CDG-N404",
    )


def _is_beside(path: str, row: Distribution) -> bool:
    """Whether a file is in the directory of a distribution's configuration, or below it."""
    directory = row.configuration.rpartition("/")[0]
    if row.name == "k0s":
        directory = "/etc/k0s"
    return path.startswith(f"{directory}/")


def _is_kubernetes(row: Distribution) -> bool:
    return row.name not in {"containerd", "CRI-O", "Docker"}
