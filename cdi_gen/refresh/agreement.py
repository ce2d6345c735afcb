# SPDX-License-Identifier: Apache-2.0
"""Tells whether the driver's libraries and its loaded module belong together.

During an update they do not: packages replace the libraries first, and the new module is loaded
later, perhaps at the next boot. Specs of that time would give containers libraries that cannot use
the module, or only some of the libraries.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cdi_gen.inventory import Inventory
from cdi_gen.paths import base_name, parent
from cdi_gen.refresh.record import Record

_LIBRARY = re.compile(r"(lib[\w+-]+)\.so\.(\d{2,4}\.\d{1,4}(?:\.\d{1,4})?)", re.ASCII)


class Library(NamedTuple):
    """The name of a library file with the driver's version in it."""

    stem: str
    version: str


def disagreement(inventory: Inventory, last: Record | None, prefix: str) -> str | None:
    """Return why the libraries are not those of the loaded module; None if they are.

    Args:
        inventory: the inventory of the host now.
        last: the record of the last refresh; None if there is none.
        prefix: what comes before a path of the host.
    """
    driver = inventory.require_driver()
    if driver.version != driver.library_version:
        return (
            f"the libraries are {driver.library_version}, the loaded kernel module is "
            f"{driver.version}"
        )
    if last is None or last.driver_version != driver.version:
        return None
    # Both versions are there for some seconds, or for as long as a package fails to install.
    present = {library.path for library in inventory.libraries}
    lost = [path for path in last.libraries if path not in present]
    directories = {parent(path) for path in lost}
    others = other_versions(directories, last.libraries, driver.version, prefix)
    new = [version for version in others if version not in last.other_versions]
    if not lost or not new:
        return None
    return (
        f"{len(lost)} libraries of the loaded kernel module {driver.version} are gone, such as "
        f"{lost[0]}, and libraries of {', '.join(new)} are being installed"
    )


def other_versions(
    directories: Iterable[str], libraries: Sequence[str], version: str, prefix: str
) -> tuple[str, ...]:
    """Return the versions of other drivers in the directories, by the names of their libraries."""
    stems = {library.stem for path in libraries if (library := _library(base_name(path)))}
    versions: set[str] = set()
    for directory in directories:
        try:
            names = os.listdir(f"{prefix}{directory}")
        except OSError:
            continue
        versions.update(
            library.version
            for name in names
            if (library := _library(name)) and library.stem in stems
        )
    return tuple(sorted(versions - {version}))


def _library(name: str) -> Library | None:
    match = _LIBRARY.fullmatch(name)
    return Library(match[1], match[2]) if match else None
