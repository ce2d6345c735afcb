# SPDX-License-Identifier: Apache-2.0
"""Versions of containerd, and of its configuration file: what each has, and under what name."""

from __future__ import annotations

from cdi_gen.engines import version
from cdi_gen.engines.containerd.imports import said_at
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.toml_text import TOMLTextError

NAME = "containerd"
FILE = "/etc/containerd/config.toml"

FIRST_WITH_CDI = (1, 7)
ON_BY_DEFAULT = (2, 0)
FIRST_THAT_MERGES = (2, 1)

PLUGINS = {1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
"""The CRI plugin's key in each version of the file; version 4 has it as 3 does."""


def file_version(text: str | None, containerd: str | None, file: str | None = None) -> int:
    """The version of a configuration file: 1 if it does not say.

    A new file gets the newest that its containerd knows: 3 from 2.0 on.

    Raises:
        TOMLTextError: the version is no number, or none that is known.
    """
    if text is None or not text.strip():
        return 2 if version.before(containerd, (2, 0)) in (True, None) else 3
    said = said_at(toml_text.parse(text, file), ("version",))
    said = 1 if said is None else said
    if type(said) is not int or said < 1:
        raise TOMLTextError(f"{file}: version = {said!r} is no version of a configuration file")
    return said


def plugin_of(file_version: int) -> str:
    """The key of the CRI plugin."""
    return PLUGINS[min(file_version, 3)]


def first_version(texts: list[str]) -> int:
    """The version that counts for all files: the first that one of them says; 0 if none does."""
    versions = [said_at(toml_text.parse(text), ("version",)) for text in texts]
    return next((each for each in versions if isinstance(each, int) and each > 0), 0)
