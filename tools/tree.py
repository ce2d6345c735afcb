# SPDX-License-Identifier: Apache-2.0
"""Archives of a directory that depend on nothing but names, contents and permission to execute."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from pathlib import Path

from tools.steps import run

CHECKOUT = Path(__file__).resolve().parents[1]


def epoch() -> int:
    """Return the time of a build: SOURCE_DATE_EPOCH, or that of the commit."""
    chosen = os.environ.get("SOURCE_DATE_EPOCH")
    return int(chosen or run("git", "-C", CHECKOUT, "log", "-1", "--format=%ct"))


def tar(directory: Path, *, prefix: str = "", time: int) -> bytes:
    """Return a directory as a tar archive: files of root, sorted by name, all of one time.

    Args:
        directory: what the archive contains.
        prefix: the directory of the archive that everything is in, with a slash at the end.
        time: the time stamp of every entry.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(directory.rglob("*")):
            name = prefix + path.relative_to(directory).as_posix()
            entry = tarfile.TarInfo(name)
            entry.mtime = time
            if path.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
                archive.addfile(entry)
            elif path.is_dir():
                entry.type = tarfile.DIRTYPE
                entry.mode = 0o755
                archive.addfile(entry)
            else:
                entry.size = path.stat().st_size
                entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") as file:
                    archive.addfile(entry, file)
    return content.getvalue()


def compress(content: bytes) -> bytes:
    """Return the content as gzip, without a name and a time."""
    return gzip.compress(content, compresslevel=9, mtime=0)


def export_commit(target: Path) -> str:
    """Write the files of the commit to ``target``, and return the commit."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        run("git", "-C", CHECKOUT, "archive", "--output", archive.name, "HEAD")
        run("tar", "-xf", archive.name, "-C", target)
    return run("git", "-C", CHECKOUT, "rev-parse", "HEAD").strip()
