# SPDX-License-Identifier: Apache-2.0
"""Reads bytes at any offset: of a file, of a part of one, of a compressed one."""

from __future__ import annotations

import errno
import io
import os
from typing import Protocol

from cdi_base import files
from cdi_gen.images.errors import MAX_CONTENT, TooLargeError

_PIECE = 1 << 20
_LAST_OFFSET = 1 << 62


class Source(Protocol):
    """A sequence of bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes at the offset, fewer at the end."""

    def close(self) -> None:
        """Free what the source holds."""


class FileSource:
    """A regular file."""

    def __init__(self, descriptor: int) -> None:
        """Take over an open descriptor."""
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes at the offset, fewer at the end."""
        if not 0 <= offset < _LAST_OFFSET:
            return b""  # offsets in a damaged file may be any number
        content = os.pread(self._descriptor, length, offset)
        while len(content) < length:
            piece = os.pread(self._descriptor, length - len(content), offset + len(content))
            if not piece:
                break
            content += piece
        return content

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class PartSource:
    """A part of another source, which stays open when the part is closed."""

    def __init__(self, whole: Source, start: int, size: int) -> None:
        """Take the bytes of `whole` from `start` on."""
        self._whole = whole
        self._start = start
        self.size = size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes at the offset, fewer at the end."""
        if offset >= self.size:
            return b""
        return self._whole.read_at(self._start + offset, min(length, self.size - offset))

    def close(self) -> None:
        """Do nothing: the whole is not the part's."""


class SourceFile(io.RawIOBase):
    """A source as a file object for libraries, which may read at most `most` bytes at once."""

    def __init__(self, source: Source, most: int) -> None:
        super().__init__()
        self._source = source
        self._most = most
        self._position = 0

    def readable(self) -> bool:
        """Whether the file can be read: it can."""
        return True

    def seekable(self) -> bool:
        """Whether the file has positions: it has."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, from the beginning or from the current one."""
        if whence == os.SEEK_END:
            raise OSError(errno.EINVAL, "the size is not known")
        self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes.

        Raises:
            TooLargeError: the library asks for more at once than headers need.
        """
        if size is None or not 0 <= size <= self._most:
            raise TooLargeError(f"a header of the archive is larger than {self._most} bytes")
        content = self._source.read_at(self._position, size)
        self._position += len(content)
        return content


def _require_small(size: int, name: str) -> None:
    if size > MAX_CONTENT:
        raise TooLargeError(f"{name} is larger than {MAX_CONTENT} bytes")


def copy_to_memory(source: Source, name: str) -> int:
    """Return a descriptor of a file in memory with the content of a source.

    Args:
        source: what to copy.
        name: of the file, for messages.

    Raises:
        TooLargeError: the content is larger than the limit.
    """
    descriptor = os.memfd_create("cdi-gen-image", os.MFD_CLOEXEC)
    offset = 0
    try:
        while piece := source.read_at(offset, _PIECE):
            offset += len(piece)
            _require_small(offset, name)
            files.write_all(descriptor, piece)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
