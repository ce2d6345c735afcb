# SPDX-License-Identifier: Apache-2.0
"""The content of a spec directory as a JSON value, and as engines see it."""

from __future__ import annotations

import errno
from typing import Any

from cdi_base.cdi import spec_directories
from cdi_gen.doctor.recording import Json, bytes_of, text_form
from cdi_gen.host.roots import Root
from cdi_gen.paths import join
from cdi_gen.store import SpecFile, registry


def read(root: Root, directory: str) -> list[list[Any]] | str | None:
    """Return the files of a spec directory; None without the directory; else why it is unread."""
    try:
        path = root.open_path(root.resolve(join(directory)))
        return [
            [
                file.path.rpartition("/")[2],
                None if file.content is None else text_form(file.content),
                *(file.problem, file.is_closed, file.distrust),
            ]
            for file in spec_directories.files(path)
        ]
    except OSError as error:
        return None if error.errno == errno.ENOENT else error.strerror or str(error)


def interpret(directory: str, answer: Json) -> tuple[SpecFile, ...]:
    """Return the spec files of an answer of `read`, with their paths on the host."""
    if answer is None:
        return ()
    if isinstance(answer, str):
        return (registry.unreadable_directory(directory, answer),)
    return tuple(registry.interpret(_file(directory, *fields)) for fields in answer)


def _file(
    directory: str,
    name: str,
    content: Json,
    problem: str | None,
    is_closed: bool,
    distrust: str | None,
) -> spec_directories.SpecFile:
    file = spec_directories.SpecFile(join(directory, name))
    file.content = None if content is None else bytes_of(content)
    file.problem, file.is_closed, file.distrust = problem, is_closed, distrust
    return file
