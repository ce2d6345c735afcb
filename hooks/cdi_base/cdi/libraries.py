# SPDX-License-Identifier: Apache-2.0
"""Releases of the standard's Go library, with which engines read specs: each knows more fields.

A release stands for its minor version, whose releases read specs alike, with one exception: 1.1.0
reads as earlier releases, converts YAML to JSON and ignores the case of keys; 1.1.1 decodes YAML
itself, and is strict.
"""

from __future__ import annotations

LIBRARIES = ("0.5.4", "0.6.2", "0.7.2", "0.8.1", "1.0.1", "1.1.0", "1.1.1")
"""Oldest first."""

EVERY = frozenset(LIBRARIES)
NONE: frozenset[str] = frozenset()
BY_JSON = EVERY - {"1.1.1"}
"""The releases that convert YAML to JSON first."""


def before(release: str) -> frozenset[str]:
    """Return the releases before a release."""
    return frozenset(LIBRARIES[: LIBRARIES.index(release)])


def since(release: str) -> frozenset[str]:
    """Return a release and the releases after it."""
    return EVERY - before(release)


def newest_cdi_version(release: str) -> str:
    """Return the newest `cdiVersion` that a release reads: that of its minor version."""
    return f"{release.rpartition('.')[0]}.0"
