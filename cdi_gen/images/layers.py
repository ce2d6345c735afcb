# SPDX-License-Identifier: Apache-2.0
"""One layer of an image: a directory of a store, or a tar archive.

Paths in a layer have no link on the way: `Files` resolves links, because they may lead from one
layer to another. They have no slash at the beginning or the end; the root is ``""``.

Marks of removed files: in archives `.wh.NAME` and `.wh..wh..opq` (OCI image specification,
layer.md), on disk a character device 0:0 and the attribute `overlay.opaque` (the kernel's
overlayfs.rst); fuse-overlayfs has both kinds on disk.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from cdi_gen.images.errors import MAX_ENTRIES, DamagedImageError, TooLargeError
from cdi_gen.images.folder import Folder, is_plain, is_whiteout
from cdi_gen.images.sources import FileSource, PartSource, Source, SourceFile

DIRECTORY, FILE, LINK, HARD_LINK, OTHER, WHITEOUT = (
    "directory", "file", "link", "hard link", "other", "whiteout",
)  # fmt: skip

MARK = ".wh."
OPAQUE_MARK = ".wh..wh..opq"
OPAQUE_ATTRIBUTES = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")

MAX_PATH = 4096
MAX_DEPTH = 128
MAX_HEADER = 1 << 20
"""The largest header of a tar archive: a name and attributes of a file in the form pax."""


class Entry(NamedTuple):
    """A name of a layer."""

    kind: str
    size: int = 0
    target: str = ""
    """Of a symbolic link its text, of a hard link the path in the archive."""
    is_opaque: bool = False
    """Whether a directory hides the same directory of the layers below."""
    position: int = 0
    """Of the content of a file in an archive."""


class Layer(Protocol):
    """A layer."""

    def entry(self, path: str) -> Entry | None:
        """Return what the layer has at a path; None if it says nothing about the path."""

    def names(self, path: str) -> Iterator[tuple[str, bool]]:
        """Yield the names in a directory, and whether each is the mark of a removed file."""

    def open(self, path: str, entry: Entry) -> Source:
        """Return the content of a regular file."""

    @property
    def is_packed(self) -> bool:
        """Whether files have to be decompressed to be read."""

    def close(self) -> None:
        """Free what the layer holds."""


class LayerSource(Source, Protocol):
    """The content of a layer's archive, without compression."""

    @property
    def is_packed(self) -> bool:
        """Whether it is decompressed when it is read."""


class TreeLayer:
    """A directory of the host."""

    def __init__(self, folder: Folder, *, has_marks: bool) -> None:
        """Take over a directory.

        Args:
            folder: the root of the layer.
            has_marks: whether the directory has marks of removed files: it is a layer of overlayfs.
        """
        self._folder = folder
        self._has_marks = has_marks

    def entry(self, path: str) -> Entry | None:
        """Return what the layer has at a path."""
        status = self._folder.status(path)
        if status is None:
            return Entry(WHITEOUT) if self._has_marks and self._is_marked(path) else None
        if stat.S_ISREG(status.st_mode):
            return Entry(FILE, status.st_size)
        if stat.S_ISDIR(status.st_mode):
            return Entry(DIRECTORY, is_opaque=self._has_marks and self._is_opaque(path))
        if stat.S_ISLNK(status.st_mode):
            text = self._folder.link_text(path)
            return None if text is None else Entry(LINK, target=text)
        if self._has_marks and is_whiteout(status):
            return Entry(WHITEOUT)
        return Entry(OTHER)

    def names(self, path: str) -> Iterator[tuple[str, bool]]:
        """Yield the names in a directory."""
        for entry in self._folder.names(path):
            if not self._has_marks:
                yield entry.name, False
            elif entry.name.startswith(MARK):
                yield entry.name.removeprefix(MARK), True
            else:
                yield (
                    entry.name,
                    not is_plain(entry) and is_whiteout(entry.stat(follow_symlinks=False)),
                )

    def open(self, path: str, entry: Entry) -> Source:  # noqa: ARG002
        """Return the content of a regular file."""
        try:
            return FileSource(self._folder.open(path))
        except OSError as error:
            raise self._folder.error(path, error) from None

    @property
    def is_packed(self) -> bool:
        """Whether files have to be decompressed to be read: they have not."""
        return False

    def close(self) -> None:
        """Close the directory."""
        self._folder.close()

    def _is_marked(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return self._folder.status(f"{folder}/{MARK}{name}") is not None

    def _is_opaque(self, path: str) -> bool:
        if any(self._folder.attribute(path, name) == b"y" for name in OPAQUE_ATTRIBUTES):
            return True
        return self._folder.status(f"{path}/{OPAQUE_MARK}") is not None


class Budget:
    """The number of files that the archives of one image may still have."""

    def __init__(self, left: int = MAX_ENTRIES) -> None:
        self._left = left

    def take(self) -> None:
        """Count a file.

        Raises:
            TooLargeError: there are too many.
        """
        self._left -= 1
        if self._left < 0:
            raise TooLargeError(
                f"the image has more than {MAX_ENTRIES} files",
                hint="unpack it, and name the directory: --rootfs DIR",
            )


class TarLayer:
    """A tar archive, which is indexed when it is first used."""

    def __init__(self, source: LayerSource, name: str, budget: Budget) -> None:
        """Take over a source.

        Args:
            source: the archive.
            name: of the archive, for messages.
            budget: of the image.
        """
        self._source = source
        self._name = name
        self._budget = budget
        self._index: dict[str, dict[str, Entry]] | None = None
        self._marked: dict[str, set[str]] = {}
        """The names of removed files by directory."""
        self._opaque: set[str] = set()
        self.ignored = 0
        """Names that lead out of the image, and are left out."""

    def entry(self, path: str) -> Entry | None:
        """Return what the archive has at a path."""
        index = self._indexed()
        folder, _, name = path.rpartition("/")
        entry = index.get(folder, {}).get(name) if path else None
        if entry is None and path in index:
            entry = Entry(DIRECTORY)
        is_marked = name in self._marked.get(folder, ())
        if entry is None:
            return Entry(WHITEOUT) if is_marked else None
        if entry.kind == DIRECTORY and (path in self._opaque or is_marked):
            return entry._replace(is_opaque=True)
        return entry

    def names(self, path: str) -> Iterator[tuple[str, bool]]:
        """Yield the names in a directory."""
        for name in self._indexed().get(path, {}):
            yield name, False
        for name in self._marked.get(path, ()):
            yield name, True

    def open(self, path: str, entry: Entry) -> Source:  # noqa: ARG002
        """Return the content of a regular file."""
        return PartSource(self._source, entry.position, entry.size)

    @property
    def is_packed(self) -> bool:
        """Whether the archive is compressed."""
        return self._source.is_packed

    def close(self) -> None:
        """Close the archive."""
        self._index = None
        self._source.close()

    def _indexed(self) -> dict[str, dict[str, Entry]]:
        if self._index is None:
            index: dict[str, dict[str, Entry]] = {"": {}}
            for path, entry in tar_entries(self._source, self._name):
                self._budget.take()
                self._add(index, path, entry)
            self._index = index
        return self._index

    def _add(self, index: dict[str, dict[str, Entry]], path: str, entry: Entry) -> None:
        parts = components(path)
        if parts is None:
            self.ignored += 1
            return
        if not parts:
            return
        folder, name = "/".join(parts[:-1]), parts[-1]
        if name == OPAQUE_MARK:
            self._opaque.add(folder)
            self._make_directories(index, folder)
        elif name.startswith(MARK):
            self._marked.setdefault(folder, set()).add(name.removeprefix(MARK))
            self._make_directories(index, folder)
        else:
            self._make_directories(index, folder)
            index[folder][name] = entry
            if entry.kind == DIRECTORY:
                index.setdefault("/".join(parts), {})

    @staticmethod
    def _make_directories(index: dict[str, dict[str, Entry]], folder: str) -> None:
        names: list[tuple[str, str]] = []
        while folder not in index:
            index[folder] = {}
            above, _, name = folder.rpartition("/")
            names.append((above, name))
            folder = above
        for above, name in names:
            index[above].setdefault(name, Entry(DIRECTORY))


def tar_entries(source: Source, name: str) -> Iterator[tuple[str, Entry]]:
    """Yield the names of a tar archive, as they are in it, and what they are.

    Args:
        source: the archive, without compression.
        name: of the archive, for messages.

    Raises:
        DamagedImageError: the archive is damaged or truncated.
        TooLargeError: a header of the archive is larger than the limit.
    """
    try:
        archive = tarfile.open(  # noqa: SIM115
            fileobj=SourceFile(source, MAX_HEADER),
            mode="r:",
            errorlevel=2,
        )
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # the library would keep them
            yield member.name, _entry(member)
    except (tarfile.TarError, ValueError, RecursionError, EOFError) as error:
        raise DamagedImageError(f"{name}: not a complete tar archive: {error}") from None


def _entry(member: tarfile.TarInfo) -> Entry:
    if member.issparse():
        return Entry(OTHER)
    if member.isreg():
        return Entry(FILE, member.size, position=member.offset_data)
    if member.isdir():
        return Entry(DIRECTORY)
    if member.issym():
        return Entry(LINK, target=member.linkname)
    if member.islnk():
        return Entry(HARD_LINK, target=member.linkname)
    return Entry(OTHER)


def components(path: str) -> list[str] | None:
    """Return the components of a path in an archive; None if it leads out, or is too long."""
    if len(path) > MAX_PATH or "\0" in path:
        return None
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return None if ".." in parts or len(parts) > MAX_DEPTH else parts
