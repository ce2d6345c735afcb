# SPDX-License-Identifier: Apache-2.0
"""The versions of containerd's configuration file, and the key of the CRI plugin in each."""

from __future__ import annotations

from cdi_base.versions import at_least
from cdi_gen.engines import facts
from cdi_gen.engines.containerd.imports import value_at
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.toml_text import TOMLTextError


def file_version(text: str | None, containerd: str | None, file: str | None = None) -> int:
    """The version of a configuration file: 1 if the file does not say.

    A new file gets the newest version that its containerd reads: 3, or for an old or unknown
    containerd 2.

    Raises:
        TOMLTextError: the version is not a number, or not a known one.
    """
    if text is None or not text.strip():
        reads_3 = at_least(containerd, facts.containerd().file_version_3_since, unknown=False)
        return 3 if reads_3 else 2
    version = value_at(toml_text.parse(text, file), ("version",))
    version = 1 if version is None else version
    if type(version) is not int or version < 1:
        raise TOMLTextError(f"{file}: version = {version!r} is not a version of the file")
    return version


def plugin_of(file_version: int) -> str:
    """The key of the CRI plugin."""
    plugins = facts.containerd().cri_plugins
    return plugins[min(file_version, len(plugins)) - 1]


def first_version(texts: list[str]) -> int:
    """The version that counts for all files: the first one in them; 0 if there is none."""
    versions = [value_at(toml_text.parse(text), ("version",)) for text in texts]
    return next((version for version in versions if isinstance(version, int) and version > 0), 0)
