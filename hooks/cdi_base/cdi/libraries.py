# SPDX-License-Identifier: Apache-2.0
"""The releases of the standard's Go library by which engines read specs: each knows more fields.

A release stands for those of its minor version, which read alike but for 1.1: 1.1.0 still reads as
those before it did, YAML to JSON and keys in any case; 1.1.1 decodes YAML itself, and is strict.
"""

from __future__ import annotations

LIBRARIES = ("0.5.4", "0.6.2", "0.7.2", "0.8.1", "1.0.1", "1.1.0", "1.1.1")
"""Oldest first."""

EVERY = frozenset(LIBRARIES)
NONE: frozenset[str] = frozenset()
BY_JSON = EVERY - {"1.1.1"}
"""Those that turn YAML into JSON first."""


def before(release: str) -> frozenset[str]:
    """The releases before one of them."""
    return frozenset(LIBRARIES[: LIBRARIES.index(release)])


def since(release: str) -> frozenset[str]:
    """One of the releases, and those after it."""
    return EVERY - before(release)


def newest_cdi_version(release: str) -> str:
    """The newest `cdiVersion` that a release reads: that of its minor version."""
    return f"{release.rpartition('.')[0]}.0"
