# SPDX-License-Identifier: Apache-2.0
"""The files of an image: its layers as one tree, as a container would see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdi_base.files import MAX_LINKS
from cdi_gen.images.errors import ImageError, TooLargeError
from cdi_gen.images.layers import (
    DIRECTORY,
    FILE,
    HARD_LINK,
    LINK,
    WHITEOUT,
    Entry,
    Layer,
    components,
)
from cdi_gen.images.sources import Source, copy_to_memory

MAX_COMPONENTS = 256
MAX_NODES = 20_000
"""The largest number of directories whose layers are remembered."""


class Node(NamedTuple):
    """What a path leads to."""

    path: str
    """Without links; no slash at the beginning."""
    entry: Entry
    layers: tuple[Layer, ...]
    """The layers that have it, the uppermost first: one for a file, several for a directory."""


class Files:
    """The files of an image. Paths are those that a container sees; links resolve in the image."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Take over the layers, the lowest first."""
        self._layers = tuple(reversed(layers))
        self._nodes: dict[str, Node | None] = {}

    def close(self) -> None:
        """Free the layers."""
        for layer in self._layers:
            layer.close()

    def find(self, path: str) -> Node | None:
        """Return what a path leads to; None if it leads nowhere."""
        pending = _split(path)[::-1]
        location: list[str] = []
        links = count = 0
        node = self._root()
        while pending:
            name = pending.pop()
            count += 1
            if count > MAX_COMPONENTS:
                return None
            if name == "..":
                location = location[:-1]
                node = self._at(location)
                continue
            child = self._child(node, name)
            if child is None:
                return None
            if child.entry.kind == LINK:
                links += 1
                if links > MAX_LINKS:
                    return None
                if child.entry.target.startswith("/"):
                    location, node = [], self._root()
                pending += _split(child.entry.target)[::-1]
                continue
            if pending and child.entry.kind != DIRECTORY:
                return None
            location.append(name)
            node = child
        return node

    def exists(self, path: str) -> bool:
        """Whether a path leads to something."""
        return self.find(path) is not None

    def is_directory(self, path: str) -> bool:
        """Whether a path leads to a directory."""
        node = self.find(path)
        return node is not None and node.entry.kind == DIRECTORY

    def is_file(self, path: str) -> bool:
        """Whether a path leads to a regular file."""
        node = self.find(path)
        return node is not None and node.entry.kind == FILE

    def link_text(self, path: str) -> str | None:
        """Return the text of a link; None if the name is not one."""
        folder, _, name = path.rstrip("/").rpartition("/")
        parent = self.find(folder or "/")
        child = None if parent is None else self._child(parent, name)
        return child.entry.target if child is not None and child.entry.kind == LINK else None

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; none if it is not one."""
        node = self.find(path)
        if node is None or node.entry.kind != DIRECTORY:
            return []
        names: set[str] = set()
        hidden: set[str] = set()
        for layer in node.layers:
            removed = set()
            for name, is_mark in layer.names(node.path):
                if is_mark:
                    removed.add(name)
                elif name not in hidden:
                    names.add(name)
            hidden |= removed
        return sorted(names)

    def read(self, path: str, limit: int) -> bytes | None:
        """Return the content of a regular file; None if the path leads to none.

        Raises:
            TooLargeError: the file is larger than the limit.
        """
        source = self.open(path)
        if source is None:
            return None
        try:
            content = source.read_at(0, limit + 1)
        finally:
            source.close()
        if len(content) > limit:
            raise TooLargeError(f"{path} of the image is larger than {limit} bytes")
        return content

    def open(self, path: str) -> Source | None:
        """Return the content of a regular file; None if the path leads to none."""
        node = self.find(path)
        if node is None or node.entry.kind != FILE:
            return None
        return node.layers[0].open(node.path, node.entry)

    def descriptor(self, path: str) -> int | None:
        """Return a descriptor of a copy in memory of a regular file; None if it is not one.

        Raises:
            TooLargeError: the file is larger than the limit.
        """
        source = self.open(path)
        if source is None:
            return None
        try:
            return copy_to_memory(source, path)
        finally:
            source.close()

    def is_packed(self, path: str) -> bool:
        """Whether a file has to be decompressed to be read."""
        node = self.find(path)
        return node is not None and node.entry.kind == FILE and node.layers[0].is_packed

    def size(self, path: str) -> int:
        """Return the size of a regular file; 0 if the path leads to none."""
        node = self.find(path)
        return node.entry.size if node is not None and node.entry.kind == FILE else 0

    def _root(self) -> Node:
        return Node("", Entry(DIRECTORY), self._layers)

    def _at(self, location: list[str]) -> Node:
        """Return a directory that was found before, by its path without links."""
        node = self._root()
        for name in location:
            child = self._child(node, name)
            if child is None:
                raise ImageError(f"/{'/'.join(location)} of the image changed while it was read")
            node = child
        return node

    def _child(self, parent: Node, name: str) -> Node | None:
        """Return a name in a directory; a link is not followed."""
        path = f"{parent.path}/{name}" if parent.path else name
        if path in self._nodes:
            return self._nodes[path]
        node = self._merged(parent.layers, path)
        if node is not None and node.entry.kind == HARD_LINK:
            node = self._target(node)
        if len(self._nodes) < MAX_NODES:
            self._nodes[path] = node
        return node

    def _target(self, node: Node) -> Node | None:
        """Return the file of a hard link, which is in the same layer."""
        seen = {node.path}
        layer = node.layers[0]
        while node.entry.kind == HARD_LINK:
            parts = components(node.entry.target)
            target = None if not parts else "/".join(parts)
            entry = None if target is None or target in seen else layer.entry(target)
            if target is None or entry is None or entry.kind == DIRECTORY:
                return None
            seen.add(target)
            node = Node(target, entry, (layer,))
        return node

    @staticmethod
    def _merged(layers: tuple[Layer, ...], path: str) -> Node | None:
        """Return what the layers have at a path below a directory that all of them have."""
        directories: list[Layer] = []
        for layer in layers:
            entry = layer.entry(path)
            if entry is None:
                continue
            if entry.kind == WHITEOUT:
                break
            if entry.kind != DIRECTORY:
                return (
                    Node(path, entry, (layer,))
                    if not directories
                    else _directory(path, directories)
                )
            directories.append(layer)
            if entry.is_opaque:
                break
        return _directory(path, directories) if directories else None


def _directory(path: str, layers: list[Layer]) -> Node:
    return Node(path, Entry(DIRECTORY), tuple(layers))


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]
