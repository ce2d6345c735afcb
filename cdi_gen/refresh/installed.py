# SPDX-License-Identifier: Apache-2.0
"""Compares the specs that engines read, of any program, with the facts of the host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from cdi_base.findings import Finding
from cdi_gen.refresh import effective_specs, host_facts, staleness
from cdi_gen.refresh.effective_specs import EffectiveSpecs


class Installed(NamedTuple):
    """The specs in the directories of engines."""

    specs: EffectiveSpecs
    driver_version: str | None
    """None: no driver is loaded."""
    differences: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to say: no difference, no overridden and no unreadable file."""
        return not (self.differences or self.specs.shadowed or self.specs.ignored)


def compare(directories: Sequence[str], host_root: str, left_out: Sequence[str] = ()) -> Installed:
    """Return the installed specs, and what they have that the host has not, or otherwise.

    Args:
        directories: the spec directories, in the order in which engines read them.
        host_root: the path of the host's ``/`` for this process.
        left_out: devices that our refresh left out as unusable.
    """
    specs = effective_specs.read(directories)
    paths = {path for spec in specs.specs for path in spec.host_paths}
    facts = host_facts.read(paths, host_root)
    return Installed(specs, facts.driver_version, staleness.differences(specs, facts, left_out))


def with_own(of_engines: Sequence[str], own: str) -> tuple[str, ...]:
    """Return the directories that engines read, and our own; no directory under two names."""
    real_paths = {os.path.realpath(directory) for directory in of_engines}
    return tuple(of_engines) if os.path.realpath(own) in real_paths else (*of_engines, own)
