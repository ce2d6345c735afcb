# SPDX-License-Identifier: Apache-2.0
"""Which version of the driver a file belongs to, on a host that has several.

Most files of the driver have the version in their names. The rest (``libnvidia-api.so.1``,
``libnvidia-nvvm.so.4.0.0``, ``nvidia-smi``, ``nvidia_drv.so``) have it inside, or lie beside files
that have it. On a host with one version there is nothing to decide, and no file is read.
"""

from __future__ import annotations

import mmap
import os
import re

from cdi_base.files import open_regular
from cdi_gen.host.roots import Root
from cdi_gen.paths import base_name, parent

VERSION = r"\d{3,}\.\d+(?:\.\d+)*"
"""Three digits at least: ``libcuda.so.1.1`` is no driver's of a PC or server."""
_OF_A_DRIVER = re.compile(rf"lib[\w-]+\.so\.({VERSION})", re.ASCII)


class Belonging:
    """Tells files of the version in use from those of the host's other versions.

    Args:
        root: the driver root.
        version: the one that containers get.
        others: the versions that are installed beside it.
    """

    def __init__(self, root: Root, version: str, others: tuple[str, ...]) -> None:
        self._root = root
        self._version = version
        self._others = others
        self._known: dict[str, str | None] = {}
        self._texts = re.compile(
            rb"(?<![\d.])(?:%s)(?![\d])"
            % b"|".join(re.escape(each.encode()) for each in (version, *others))
        )
        self._directories: dict[str, frozenset[str]] = {}

    @property
    def several(self) -> bool:
        """Whether there is anything to decide."""
        return bool(self._others)

    def other(self, path: str) -> str | None:
        """The other version that a file, a resolved path, belongs to.

        None: it belongs to the version in use, or to none in particular.
        """
        if not self._others:
            return None
        if path not in self._known:
            version = self.version(path)
            self._known[path] = None if version == self._version else version
        return self._known[path]

    def version(self, path: str) -> str | None:
        """The version by the file's name, by what is in it, or by what lies beside it."""
        named = _OF_A_DRIVER.fullmatch(base_name(path))
        if named:
            return named[1]
        inside = self._inside(path)
        if inside:
            return self._version if self._version in inside else min(inside)
        beside = self._beside(parent(path))
        if beside and self._version not in beside:
            return max(beside)
        return None

    def _inside(self, path: str) -> frozenset[str]:
        """Those of the host's versions that the file's bytes name."""
        try:
            descriptor = open_regular(self._root.open_path(path))
            try:
                content = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(descriptor)
            with content:
                return frozenset(each.group().decode() for each in self._texts.finditer(content))
        except (OSError, ValueError):
            return frozenset()

    def _beside(self, directory: str) -> frozenset[str]:
        """The versions in the names of libraries of a directory."""
        if directory not in self._directories:
            names = (_OF_A_DRIVER.fullmatch(each.name) for each in self._root.entries(directory))
            self._directories[directory] = frozenset(
                name[1] for name in names if name and name[1] in (self._version, *self._others)
            )
        return self._directories[directory]
