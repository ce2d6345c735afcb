# SPDX-License-Identifier: Apache-2.0
"""Recognises containers by the names of their control groups; pure.

The names are a hint only: with ``--cgroup-parent`` a user chooses a part of them, and some engines
create none. What the hint says is looked up in the engine's own files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from cdi_base.control_groups import CONTROLLER, SYSTEMD, VERSION_2

HEX_ID = re.compile(r"[0-9a-f]{64}")

_FORMS = (
    (re.compile(r"docker-([0-9a-f]{64})\.scope"), "docker"),
    (re.compile(r"libpod-(?:payload-)?([0-9a-f]{64})(?:\.scope)?"), "podman"),
    (re.compile(r"crio-([0-9a-f]{64})(?:\.scope)?"), "cri-o"),
    (re.compile(r"cri-containerd-([0-9a-f]{64})\.scope"), "containerd"),
    (re.compile(r"nerdctl-([0-9a-f]{64})\.scope"), "nerdctl"),
    (re.compile(r"lxc\.payload\.(.+)"), "lxc"),
    (re.compile(r"machine-(.+)\.scope"), "systemd-nspawn"),
    (re.compile(r"snap\.([^.]+\..+)\.scope"), "snap"),
    (re.compile(r"app-flatpak-(.+)\.scope"), "flatpak"),
    (re.compile(r"(?:runc|crun)-(.+)\.scope"), ""),
)
"""Names of groups by systemd and by cgroupfs, the container's id in them, and the engine."""


class Hint(NamedTuple):
    """What the name of a control group suggests."""

    engine: str
    """Empty if several engines name groups so."""
    id: str


def hints(groups: Mapping[str, str]) -> list[Hint]:
    """Return what the names of a process's groups suggest, the innermost container first."""
    found: dict[Hint, None] = {}
    for controller in (CONTROLLER, VERSION_2, SYSTEMD):
        names = [name for name in groups.get(controller, "").split("/") if name]
        for position in range(len(names) - 1, -1, -1):
            hint = _hint(names[position], names[position - 1] if position else "")
            if hint is not None:
                found[hint] = None
        if names:
            # runc and crun name the group after the container, if they are not told otherwise.
            found[Hint("", names[-1])] = None
    return list(found)


def is_of_engine(name: str) -> bool:
    """Whether a group has the name of a container's group."""
    return _hint(name, "") is not None


def _hint(name: str, parent: str) -> Hint | None:
    for form, engine in _FORMS:
        match = form.fullmatch(name)
        if match is not None:
            return Hint(engine, match[1])
    if HEX_ID.fullmatch(name):
        return Hint("docker" if parent == "docker" else "", name)
    return None
