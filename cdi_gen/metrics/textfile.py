# SPDX-License-Identifier: Apache-2.0
"""Writes the text to a file for the textfile collector of node_exporter."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from cdi_base import files
from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.metrics.pages import Form, Pages

SUFFIX = ".prom"


class TextfileError(CdiGenError):
    """The file cannot be written."""

    code = "CDG-O156"


class Textfile:
    """A file with the text of the last snapshot.

    Args:
        path: of the file.
        report: prints a finding.

    Raises:
        UsageError: node_exporter would not read a file of this name.
    """

    def __init__(self, path: str, report: Callable[[Finding], None]) -> None:
        if not path.endswith(SUFFIX):
            raise UsageError(
                f"--textfile: node_exporter reads no file of the name {path}",
                hint=f"give a name that ends with {SUFFIX}, in the directory of its option "
                "--collector.textfile.directory",
                code="CDG-O155",
                subject="--textfile",
            )
        self._path = path
        self._report = report
        self._failure = ""
        # The same name each time: the file of a process that was killed does not stay.
        self._temporary = f".{os.path.basename(path)}.cdi-gen.tmp"

    def write(self, pages: Pages) -> None:
        """Replace the file in one step; every user may read it.

        Raises:
            TextfileError: the file system refuses.
        """
        content = b"".join(pages.text(Form()) or ())
        above = os.path.dirname(self._path) or "."
        try:
            directory = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                files.discard(self._temporary, directory)
                files.replace(
                    os.path.basename(self._path),
                    content,
                    directory=directory,
                    durable=False,
                    temporary=self._temporary,
                )
            finally:
                os.close(directory)
        except OSError as error:
            raise TextfileError(
                f"cannot write {self._path}: {error.strerror}",
                hint=f"the directory {above} must exist, and user {os.geteuid()} be able to write "
                "to it",
                subject=self._path,
            ) from error

    def update(self, pages: Pages) -> None:
        """Replace the file; report why that is not possible, once until it changes."""
        try:
            self.write(pages)
        except TextfileError as error:
            if error.message != self._failure:
                self._failure = error.message
                self._report(error.finding)
        else:
            self._failure = ""

    def remove(self) -> None:
        """Remove the file: node_exporter would go on to show its values."""
        # A directory that cannot be written to any more was reported before.
        with suppress(OSError):
            os.unlink(self._path)
