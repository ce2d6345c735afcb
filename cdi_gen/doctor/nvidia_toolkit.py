# SPDX-License-Identifier: Apache-2.0
"""The NVIDIA Container Toolkit on the host: its version, and what is known of it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import cdi_specs
from cdi_base import nvidia
from cdi_base.versions import at_least
from cdi_gen.doctor.check import Unseen
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.rooted_machine import RootedMachine
from cdi_gen.engines.machine import printed_version
from cdi_gen.paths import base_name

HOOKS = (nvidia.HOOK, nvidia.CTK)
"""The names of NVIDIA's hook program in specs."""
OWN = "cdi-gen"


@cache
def facts() -> dict[str, Any]:
    """Return the table ``nvidia_toolkit.json``."""
    document: dict[str, Any] = json.loads(cdi_specs.read_text("nvidia_toolkit.json"))
    return document


def is_nvidias(host: Host, path: str) -> bool:
    """Whether a program has a name of the toolkit and is not a link to one of cdi-gen's."""
    names = (*HOOKS, nvidia.RUNTIME, nvidia.PRESTART_HOOK, nvidia.OLD_PRESTART_HOOK)
    if base_name(path) not in names:
        return False
    seen: set[str] = set()
    while path not in seen:
        seen.add(path)
        if OWN in path:
            return False
        target = host.link(path)
        if target is None:
            return True
        path = target if target.startswith("/") else f"{path.rpartition('/')[0]}/{target}"
    return True


def version(host: Host, program: str) -> str | None:
    """Return the version that a program of the toolkit prints, or that of its package.

    None: the program is not run, and its package is not one of dpkg.
    """
    try:
        return printed_version(host.output(program, "--version") or "")
    except Unseen:
        name = base_name(program)
        if OWN in name:
            return None
        packaged: str | None = host.fact(
            "package version", lambda: RootedMachine(host.root).package_version(name), name
        )
        return packaged


def has_limit(name: str, release: str | None) -> bool:
    """Whether a release of the toolkit has a limit of the table; an unknown release has it."""
    limit = facts()["limits"][name]
    if not at_least(release, limit["since"], unknown=True):
        return False
    return limit["until"] is None or not at_least(release, limit["until"], unknown=False)


def vulnerabilities(release: str) -> list[tuple[str, str]]:
    """Return the published vulnerabilities of a release, and the first release without each."""
    return [
        (row["name"], row["until"])
        for row in facts()["vulnerabilities"]
        if not at_least(release, row["until"], unknown=True)
    ]
