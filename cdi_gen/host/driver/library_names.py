# SPDX-License-Identifier: Apache-2.0
"""Tells by its name whether a file may be a library of the driver. It does no I/O."""

from __future__ import annotations

from cdi_gen.catalogue import Catalogue


class LibraryNames:
    """The names of the driver's libraries, by the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        # Loaded by the X server, from its own directories.
        self._modules = {
            entry.name.partition(".so")[0] for entry in catalogue.files if entry.kind == "xorg"
        }

    def is_of_version(self, name: str, version: str) -> bool:
        """Whether a file has the name of a library of this version, or of one without versions."""
        stem, _, suffix = name.partition(".so")
        if stem in self._modules:
            return False
        if suffix == "." + version:
            return True
        _, *numbers = suffix.split(".")
        return (
            stem in self._catalogue.unversioned
            and bool(numbers)
            and all(number.isdecimal() for number in numbers)
            and len(numbers[0]) < 3  # three digits: the version of another driver
        )

    def is_soname(self, name: str) -> bool:
        """Whether a file has the SONAME of a library whose file has the version in its name.

        A package may install it so: that of negativo17 for Fedora has libGLX_nvidia.so.0, and no
        file with the version.
        """
        stem, _, suffix = name.partition(".so.")
        return (
            suffix.isdecimal()
            and len(suffix) < 3
            and stem in self._catalogue.libraries
            and stem not in self._catalogue.unversioned
            and stem not in self._modules
        )

    def is_needed(self, name: str, version: str) -> bool:
        """Whether a name in DT_NEEDED is that of a library of the driver."""
        stem, _, suffix = name.partition(".so")
        return suffix == "." + version or stem in self._catalogue.libraries
