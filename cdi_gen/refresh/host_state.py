# SPDX-License-Identifier: Apache-2.0
"""Looks at the host: its inventory, and the fingerprint that shows when it has changed."""

from __future__ import annotations

from typing import NamedTuple

from cdi_base import HOOK, host_fingerprint
from cdi_base.host_fingerprint import Choices
from cdi_gen.catalogue import catalogue
from cdi_gen.host import gather, hook_program
from cdi_gen.inventory import Inventory
from cdi_gen.paths import parent
from cdi_gen.programs import watch
from cdi_gen.refresh import freshness
from cdi_gen.refresh.settings import Layout, State

ATTEMPTS = 3
"""How often a host is looked at that changes meanwhile. The next refresh sees the last change."""


class HostState(NamedTuple):
    """The host at one time."""

    inventory: Inventory
    choices: Choices
    key: State
    """The fingerprint from before the host was looked at."""
    sources: dict[str, State]
    """Stamps of the driver's files and directories, and of the hook program."""


def look(layout: Layout) -> HostState:
    """Return the state of the host.

    Raises:
        CdiGenError: as `cdi_gen.host.gather`.
    """
    directories = (*layout.library_search_path, *layout.config_search_path)
    fingerprint_layout = host_fingerprint.Layout(
        layout.driver_root, layout.dev_root or "", directories
    )
    choices = freshness.choices(fingerprint_layout, watch.of_catalogue(catalogue()), "")
    attempts = 0
    while True:
        attempts += 1
        key = host_fingerprint.key(choices, layout.prefix)
        inventory = gather(layout.where())
        sources = freshness.stamps(_sources(inventory, layout), layout.prefix)
        choices.watch = watch.with_inventory(choices.watch, inventory)
        unchanged = host_fingerprint.key(choices, layout.prefix) == key
        if unchanged or attempts == ATTEMPTS:
            return HostState(inventory, choices, key, sources)


def _sources(inventory: Inventory, layout: Layout) -> list[str]:
    """Return the files that specs are generated from, and the directories of the libraries."""
    programs = [layout.hook_path] if layout.hook_path else []
    programs += [f"{directory}/{HOOK}" for directory in hook_program.DIRECTORIES]
    libraries = [library.path for library in inventory.libraries]
    files = [file.path for file in (*inventory.files, *inventory.transport_files)]
    directories = sorted({parent(path) for path in libraries})
    return [*programs, *libraries, *files, *directories]
