# SPDX-License-Identifier: Apache-2.0
"""Identifies a driver tree: its content, and the files of the host that are in it.

A package manager replaces a file by another with the same name, so a name is not enough: a tree is
out of date when one of its files has another inode, size or time.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import Any, NamedTuple

from cdi_base import VERSION
from cdi_gen.generate.driver_tree import DriverTree

FORMAT = 1
"""The format of the description; it is part of the name of a tree."""

DIGITS = 16

Stamp = tuple[int, int, int, int]
"""Device, inode, size and time of the last change (ns) of a file."""

Document = dict[str, Any]


class Fingerprint(NamedTuple):
    """A tree's content, with the stamp of each of its files."""

    tree: DriverTree
    stamps: tuple[Stamp, ...]
    """In the order of the tree's files."""

    @classmethod
    def of(cls, tree: DriverTree) -> Fingerprint:
        """Return the fingerprint of a tree with the files that the host has now.

        Raises:
            OSError: a file is missing, or is not a regular file.
        """
        return cls(tree, tuple(file_stamp(file.source) for file in tree.files))

    def document(self) -> Document:
        """Return the description that is in the tree as ``driver.json``.

        The hook reads the two versions.
        """
        return {
            "format": FORMAT,
            "driverVersion": self.tree.version,
            **({"cudaVersion": self.tree.cuda_version} if self.tree.cuda_version else {}),
            "files": [
                [file.path, file.source, file.copied, *stamp]
                for file, stamp in zip(self.tree.files, self.stamps, strict=True)
            ],
            "links": [[link.path, link.text] for link in self.tree.links],
        }

    def text(self) -> bytes:
        """Return the text of the description."""
        document = {**self.document(), "madeBy": f"cdi-gen {VERSION}"}
        return json.dumps(document, indent=1).encode() + b"\n"

    @property
    def name(self) -> str:
        """The name of the tree's directory."""
        text = json.dumps(self.document(), separators=(",", ":"))
        return f"{self.tree.version}-{hashlib.sha256(text.encode()).hexdigest()[:DIGITS]}"


def file_stamp(path: str) -> Stamp:
    """Return the stamp of a file of the host.

    Raises:
        OSError: the file is missing, or is not a regular file.
    """
    return stamp_of(os.lstat(path), path)


def stamp_of(status: os.stat_result, path: str) -> Stamp:
    """Return the stamp of a file with these attributes.

    Raises:
        OSError: it is not a regular file.
    """
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "not a regular file", path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
