# SPDX-License-Identifier: Apache-2.0
"""Reads the images of a fleet: a file with an image on each line.

| line | image |
|---|---|
| `cuda:13.1`, `cuda:12.8.1` | any image of that CUDA version |
| `require:cuda>=12.8 brand=tesla,…` | any image with that `NVIDIA_REQUIRE_CUDA` |
| all else | an image as in `cdi-gen compat IMAGE`: a reference, an id, a path, a transport |

A relative path, ``./app.tar`` or ``oci-archive:./app.tar``, begins at the directory of the list.
Empty lines are ignored, and what follows `#` at the start of a line or after a space. An image
that cannot be read becomes a row with the reason, so that one image does not hide the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from cdi_base.findings import Finding
from cdi_gen.compat.facts import ImageFacts
from cdi_gen.compat.fleet.matrix import IMAGE, Unreadable
from cdi_gen.compat.image_facts import stated_facts
from cdi_gen.errors import CdiGenError, UsageError

MAX_BYTES = 4 << 20
MAX_IMAGES = 100_000

Open = Callable[[str, "str | None"], ImageFacts]
"""Returns the facts of a reference or a path for an architecture, in OCI's words; None: that of
this machine. Raises CdiGenError or OSError."""

_CUDA = re.compile(r"cuda:(\d+(?:\.\d+){0,2})")
_REQUIRE = "require:"
_PATH = re.compile(r"((?:oci|dir|docker-archive|oci-archive):)?((?:/|\.\.?/).*)")
_COMMENT = re.compile(r"(?:^|\s)#.*")


def names(content: bytes, path: str) -> list[str]:
    """Return the lines that name an image, in their order, each once.

    Args:
        content: of the file, at most `MAX_BYTES` + 1 bytes.
        path: of the file, for messages.

    Raises:
        UsageError: the file is no list of images.
    """
    fault = ""
    lines: list[str] = []
    try:
        lines = content.decode("utf-8").removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError:
        fault = "is not UTF-8 text"
    if len(content) > MAX_BYTES or len(lines) > MAX_IMAGES:
        fault = f"has more than {MAX_IMAGES} lines or {MAX_BYTES >> 20} MiB"
    images = [*dict.fromkeys(filter(None, (_COMMENT.sub("", line).strip() for line in lines)))]
    if not fault and not images:
        fault = "names no image"
    if fault:
        raise UsageError(
            f"the list of images {path} {fault}",
            hint="write a text file with a reference, a path or cuda:VERSION on each line",
            code="CDG-M103",
            subject=path,
        )
    return images


def read(
    lines: list[str], directory: str, architectures: Sequence[str], open_image: Open
) -> tuple[list[ImageFacts], list[Unreadable]]:
    """Return the facts of all images, and the images that cannot be read.

    An image of several platforms has facts for each architecture of the fleet.

    Args:
        lines: of `names`.
        directory: in which relative paths begin.
        architectures: of the hosts, in OCI's words.
        open_image: reads what is not given inline.
    """
    rows = [
        row
        for line in lines
        for row in _inline(line) or _named(line, directory, architectures or [None], open_image)
    ]
    return (
        [row for row in rows if isinstance(row, ImageFacts)],
        [row for row in rows if isinstance(row, Unreadable)],
    )


def _inline(line: str) -> list[ImageFacts]:
    """Return the facts that a line gives itself; none if it names an image."""
    version = _CUDA.fullmatch(line)
    if version:
        return [replace(stated_facts(version[1], None), name=line)]
    if line.startswith(_REQUIRE):
        expression = line.removeprefix(_REQUIRE).strip()
        return [replace(stated_facts(None, expression), name=line)]
    return []


def _named(
    line: str, directory: str, architectures: Sequence[str | None], open_image: Open
) -> Sequence[ImageFacts | Unreadable]:
    path = _PATH.fullmatch(line)
    source = f"{path[1] or ''}{os.path.join(directory, path[2])}" if path else line
    rows = [_read(line, source, architecture, open_image) for architecture in architectures]
    images = [row for row in rows if isinstance(row, ImageFacts)]
    # An image that lacks one of the architectures does not run on those hosts, and is no fault.
    return [*dict.fromkeys(images)] or rows[:1]


def _read(
    line: str, source: str, architecture: str | None, open_image: Open
) -> ImageFacts | Unreadable:
    try:
        return replace(open_image(source, architecture), name=line)
    except OSError as error:
        message = f"the image cannot be read: {error.strerror or error}"
        reason = Finding("CDG-M104", "error", message)
    except CdiGenError as error:
        reason = error.finding
    return Unreadable(subject=IMAGE, name=line, reason=reason)
