# SPDX-License-Identifier: Apache-2.0
"""Decompresses gzip and zstd, so that any offset of the content can be read.

gzip is decompressed as far as it is read. The state of the decompressor is kept every 64 MiB, so
that an earlier offset needs no start from the beginning. zstd has no such state: its content is
decompressed into a temporary file, by Python 3.14's own module or by the program `zstd`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from typing import Any

from cdi_base import trust
from cdi_gen.images.errors import (
    MAX_DECOMPRESSED,
    MAX_RATIO,
    RATIO_FROM,
    DamagedImageError,
    ImageError,
    TooLargeError,
)
from cdi_gen.images.sources import FileSource, Source

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz"}

_PIECE = 1 << 20
_INPUT = 1 << 16
"""Bytes that are given to zlib at once: it copies what is left of them after each member."""
MAX_EMPTY_MEMBERS = 4096
"""The largest number of gzip members without content in a row; 20 bytes each."""
_CHECKPOINT = 64 << 20
_ANY_GZIP = 31
"""zlib's number for a gzip header and the largest window."""
_PROGRAMS = ("/usr/bin/zstd", "/bin/zstd", "/usr/local/bin/zstd")


def decompressed(source: Source) -> Source:
    """Return the content of a source, decompressed if its first bytes are of a compression.

    Raises:
        ImageError: the compression cannot be read on this machine.
    """
    head = source.read_at(0, 8)
    if head.startswith(GZIP):
        return GzipSource(source)
    if head.startswith(ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return _zstd(source)
    for magic, name in OTHERS.items():
        if head.startswith(magic):
            raise ImageError(
                f"{name} is not supported", hint="decompress the archive first", code="CDG-M023"
            )
    return source


class GzipSource:
    """The content of a gzip source of one or several members."""

    def __init__(self, source: Source) -> None:
        """Take over a source."""
        self._source = source
        self._checkpoints: list[tuple[int, int, Any]] = []
        self._start()

    def _start(self) -> None:
        self._decompressor: Any = zlib.decompressobj(_ANY_GZIP)
        self._input = 0
        self._pending = b""
        self._piece = b""
        self._piece_at = 0

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes at the offset, fewer at the end.

        Raises:
            DamagedImageError: the content is damaged or truncated.
            TooLargeError: the content is larger than the limits.
        """
        if offset < self._piece_at:
            self._go_back(offset)
        content = bytearray()
        while len(content) < length:
            start = offset + len(content) - self._piece_at
            if start < len(self._piece):
                content += self._piece[start : start + length - len(content)]
            elif not self._advance():
                break
        return bytes(content)

    def close(self) -> None:
        """Free the decompressor and the source."""
        self._checkpoints.clear()
        self._source.close()

    def _go_back(self, offset: int) -> None:
        self._start()
        for output, position, decompressor in reversed(self._checkpoints):
            if output <= offset:
                self._decompressor = decompressor.copy()
                self._input = position
                self._piece_at = output
                return

    def _advance(self) -> bool:
        """Decompress the next piece; return whether there was one."""
        end = self._piece_at + len(self._piece)
        last = self._checkpoints[-1][0] if self._checkpoints else 0
        if end >= last + _CHECKPOINT and not self._decompressor.eof:
            position = self._input - len(self._pending)
            self._checkpoints.append((end, position, self._decompressor.copy()))
        try:
            piece = self._next_piece()
        except zlib.error as error:
            raise DamagedImageError(f"gzip: {error}") from None
        self._piece, self._piece_at = piece, end
        total = end + len(piece)
        if total > MAX_DECOMPRESSED or (total > RATIO_FROM and total > MAX_RATIO * self._input):
            raise TooLargeError(
                f"gzip: {self._input} bytes decompress to more than {total}",
                hint="the archive is perhaps made to fill memory; it was not read further",
            )
        return bool(piece)

    def _next_piece(self) -> bytes:
        """Return the next piece of the content; empty at the end."""
        empty_members = 0
        while True:
            if len(self._pending) < len(GZIP):
                more = self._source.read_at(self._input, _INPUT)
                self._input += len(more)
                self._pending += more
            if self._decompressor.eof:
                if not self._pending.startswith(GZIP):
                    return b""  # the end, or padding after the last member
                empty_members += 1
                if empty_members > MAX_EMPTY_MEMBERS:
                    raise DamagedImageError("gzip: thousands of members without content")
                self._decompressor = zlib.decompressobj(_ANY_GZIP)
            if not self._pending:
                raise DamagedImageError("gzip: truncated")
            piece: bytes = self._decompressor.decompress(self._pending, _PIECE)
            decompressor = self._decompressor
            self._pending = (
                decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
            )
            if piece:
                return piece


def _zstd(source: Source) -> Source:
    """Return the content of a zstd source, in a temporary file without a name."""
    with tempfile.TemporaryFile() as file:
        total = taken = 0
        pieces = _by_module(source) or _by_program(source)
        for taken, piece in pieces:
            total += len(piece)
            if total > MAX_DECOMPRESSED or (total > RATIO_FROM and total > MAX_RATIO * taken):
                raise TooLargeError(f"zstd: {taken} bytes decompress to more than {total}")
            _require_space(file.fileno(), len(piece))
            file.write(piece)
        file.flush()
        return FileSource(os.dup(file.fileno()))


def _require_space(descriptor: int, size: int) -> None:
    status = os.fstatvfs(descriptor)
    if status.f_bavail * status.f_frsize < size + (256 << 20):
        raise TooLargeError(
            "zstd: the directory for temporary files is full",
            hint="set TMPDIR to a directory with more space",
        )


def _by_module(source: Source) -> Iterator[tuple[int, bytes]] | None:
    """Decompress by Python's module; None before Python 3.14, which does not have it."""
    try:
        module = importlib.import_module("compression.zstd")
    except ImportError:
        return None

    def pieces() -> Iterator[tuple[int, bytes]]:
        decompressor = module.ZstdDecompressor()
        offset, pending = 0, b""
        while True:
            if decompressor.eof:
                pending = decompressor.unused_data or source.read_at(offset, _PIECE)
                if not decompressor.unused_data:
                    offset += len(pending)
                if not pending:
                    return
                decompressor = module.ZstdDecompressor()
            elif decompressor.needs_input:
                pending = source.read_at(offset, _PIECE)
                offset += len(pending)
                if not pending:
                    raise DamagedImageError("zstd: truncated")
            try:
                piece = decompressor.decompress(pending, _PIECE)
            except module.ZstdError as error:
                raise DamagedImageError(f"zstd: {error}") from None
            pending = b""
            yield offset, piece

    return pieces()


def _by_program(source: Source) -> Iterator[tuple[int, bytes]]:
    program = next((path for path in _PROGRAMS if _is_trusted(path)), None)
    if program is None:
        raise ImageError(
            "zstd: neither Python 3.14's module nor the program zstd is installed",
            hint="install zstd, or save the image without compression",
            code="CDG-M023",
        )
    taken = 0
    process = subprocess.Popen(
        [program, "--decompress", "--stdout", "--quiet", "--memory=128MB"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"LC_ALL": "C.UTF-8"},
    )
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise AssertionError

    def feed() -> None:
        nonlocal taken
        try:
            while piece := source.read_at(taken, _PIECE):
                taken += len(piece)
                stdin.write(piece)
        except OSError:
            pass  # the program has ended; its status says why
        finally:
            with contextlib.suppress(OSError):
                stdin.close()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        while piece := stdout.read(_PIECE):
            yield max(taken, 1), piece
        message = stderr.read(4096).decode(errors="replace").strip()
        if process.wait():
            raise DamagedImageError(f"zstd: {message}")
    finally:
        process.kill()
        process.wait()
        feeder.join()
        stdout.close()
        stderr.close()


def _is_trusted(path: str) -> bool:
    try:
        return trust.fault(path) is None
    except OSError:
        return False
