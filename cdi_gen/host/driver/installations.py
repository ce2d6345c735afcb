# SPDX-License-Identifier: Apache-2.0
"""Determines the driver version of a file on a host with several driver versions.

Most files of the driver have the version in their names. Other files (``libnvidia-api.so.1``,
``libnvidia-nvvm.so.4.0.0``, ``nvidia-smi``, ``nvidia_drv.so``) contain the version, or are in the
directory of files that have it. On a host with one version no file is read.
"""

from __future__ import annotations

import mmap
import os
import re

from cdi_base.files import open_regular
from cdi_gen.host.roots import Root
from cdi_gen.paths import base_name, parent

VERSION = r"\d{3,}\.\d+(?:\.\d+)*"
"""At least three digits: ``libcuda.so.1.1`` is not of the driver for PCs and servers."""
_VERSIONED_LIBRARY = re.compile(rf"lib[\w-]+\.so\.({VERSION})", re.ASCII)


class Belonging:
    """Distinguishes files of the version in use from files of the host's other versions.

    Args:
        root: the driver root.
        version: the version that containers get.
        others: the other installed versions.
    """

    def __init__(self, root: Root, version: str, others: tuple[str, ...]) -> None:
        self._root = root
        self._version = version
        self._others = others
        self._other_versions: dict[str, str | None] = {}
        self._texts = re.compile(
            rb"(?<![\d.])(?:%s)(?![\d])"
            % b"|".join(re.escape(name.encode()) for name in (version, *others))
        )
        self._directories: dict[str, frozenset[str]] = {}

    @property
    def has_other_versions(self) -> bool:
        """Whether the host has several versions."""
        return bool(self._others)

    def contains_version(self, path: str) -> bool:
        """Whether a file (a resolved path) contains the version in use."""
        return self._version in self._content_versions(path)

    def other_version(self, path: str) -> str | None:
        """Return the other version that a file (a resolved path) belongs to.

        None if the file belongs to the version in use, or has no version.
        """
        if not self._others:
            return None
        if path not in self._other_versions:
            version = self.version(path)
            self._other_versions[path] = None if version == self._version else version
        return self._other_versions[path]

    def version(self, path: str) -> str | None:
        """Return the version of a file, by its name, content or directory; None if unknown."""
        match = _VERSIONED_LIBRARY.fullmatch(base_name(path))
        if match:
            return match[1]
        versions = self._content_versions(path)
        if versions:
            return self._version if self._version in versions else min(versions)
        versions = self._directory_versions(parent(path))
        if versions and self._version not in versions:
            return max(versions)
        return None

    def _content_versions(self, path: str) -> frozenset[str]:
        """Return the host's versions that the file contains."""
        try:
            descriptor = open_regular(self._root.open_path(path))
            try:
                content = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(descriptor)
            with content:
                return frozenset(match[0].decode() for match in self._texts.finditer(content))
        except (OSError, ValueError):
            return frozenset()

    def _directory_versions(self, directory: str) -> frozenset[str]:
        """Return the versions in the names of a directory's libraries."""
        if directory not in self._directories:
            entries = self._root.entries(directory)
            names = (_VERSIONED_LIBRARY.fullmatch(entry.name) for entry in entries)
            self._directories[directory] = frozenset(
                name[1] for name in names if name and name[1] in (self._version, *self._others)
            )
        return self._directories[directory]
