# SPDX-License-Identifier: Apache-2.0
"""Examines the specs that engines read: are they fresh, and which devices do engines resolve?

The differences are those of ``cdi-gen check``. `key` tells cheaply whether there can be another
result.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cdi_base import host_fingerprint
from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.host_fingerprint import Watch
from cdi_gen.host.roots import Root
from cdi_gen.metrics.own.model import SpecFile, SpecState
from cdi_gen.refresh import freshness, result
from cdi_gen.refresh import record as records
from cdi_gen.refresh.settings import Layout, Request

if TYPE_CHECKING:
    from cdi_base.findings import Finding
    from cdi_gen.refresh.effective_specs import EffectiveSpecs
    from cdi_gen.refresh.host_facts import HostFacts
    from cdi_gen.refresh.record import Record

MAX_FILES = 100
"""Spec files with a series of their own."""

STATE_FILES = (records.NAME, result.NAME)

NODES = Watch(("nvidia*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps"))
"""The nodes whose changes are noticed if there is no record of a refresh, which names others."""


def layout_of(fields: dict[str, Any]) -> Layout:
    """Return the layout of a JSON form."""
    lists = ("library_search_path", "config_search_path")
    return Layout(**fields | {name: tuple(fields[name]) for name in lists})


def key(layout: Layout) -> object:
    """Return a value that differs when the host or a spec has changed; it takes a millisecond."""
    state_directory = _state_directory(layout)
    record = records.load(state_directory)
    watch = Watch.of(record.choices[1]) if record and len(record.choices) > 1 else None
    choices = host_fingerprint.Choices(
        layout=host_fingerprint.Layout(
            layout.driver_root,
            layout.dev_root or "",
            (*layout.library_search_path, *layout.config_search_path),
        ),
        watch=watch or NODES,
    )
    return [
        [host_fingerprint.stamp(f"{state_directory}/{name}") for name in STATE_FILES],
        host_fingerprint.key(choices, layout.prefix),
        freshness.listings(_directories(layout, record)),
        freshness.stamps(tuple(record.sources), layout.prefix) if record else {},
        record is None or freshness.is_tree_unchanged(record),
    ]


def examine(layout: Layout) -> SpecState:
    """Compare the specs that engines read with the host."""
    # Only the process of an examination needs these.
    from cdi_gen.refresh import device_states, effective_specs, host_facts  # noqa: PLC0415

    state_directory = _state_directory(layout)
    record = records.load(state_directory)
    last = result.load(state_directory)
    registry = effective_specs.read_registry(_directories(layout, record))
    specs = effective_specs.of(registry)
    paths = {path for spec in specs.specs for path in spec.host_paths}
    facts = host_facts.read(paths, layout.host_root)
    left_out = record.left_out if record else ()
    differences = _differences(layout, specs, facts, left_out)
    is_known = bool(specs.specs or specs.conflicts) or facts.driver_version is not None
    return SpecState(
        is_stale=bool(differences) if is_known else None,
        differences=dict(Counter(difference.code for difference in differences)),
        devices=device_states.count(registry, facts, left_out) if is_known else {},
        files=tuple(_files(specs, layout.prefix)),
        refreshed=last.time if last else None,
        refresh_exit_code=last.exit_code if last else None,
    )


def _state_directory(layout: Layout) -> str:
    return f"{layout.prefix}{records.DIRECTORY}"


def _directories(layout: Layout, record: Record | None) -> tuple[str, ...]:
    """Return the spec directories of the host, as this process opens them."""
    request = Request.of(record.request) if record else None
    own = (request.settings.output_directory,) if request else ()
    root = Root(seen_from=layout.host_root)
    resolved = (root.resolve(path, may_be_missing=True) for path in (*SPEC_DIRECTORIES, *own))
    return tuple(dict.fromkeys(map(root.open_path, resolved)))


def _differences(
    layout: Layout, specs: EffectiveSpecs, facts: HostFacts, left_out: Sequence[str]
) -> Sequence[Finding]:
    if layout.prefix:
        # The record is of the host, whose paths have no prefix there: `check` cannot use it.
        from cdi_gen.refresh import staleness  # noqa: PLC0415 - see `examine`

        return staleness.differences(specs, facts, left_out)
    from cdi_gen.refresh.check import check  # noqa: PLC0415 - see `examine`

    return check(layout).differences


def _files(specs: EffectiveSpecs, prefix: str) -> Iterator[SpecFile]:
    for spec in specs.specs[:MAX_FILES]:
        with suppress(OSError):
            modified = os.stat(spec.path).st_mtime
            yield SpecFile(path=spec.path.removeprefix(prefix), modified=modified)
