# SPDX-License-Identifier: Apache-2.0
"""The versions of the standard, and the lowest version that a spec may claim.

An engine ignores a file with a version that is newer than the engine supports, or lower than the
fields of the file need; so the best version is the lowest one that the fields allow. Source: the
standard's SPEC.md ("Version") and its Go library's ``MinimumRequiredVersion``.
"""

from __future__ import annotations

from cdi_base.cdi import versions
from cdi_gen.cdi.document import to_document
from cdi_gen.cdi.model import Spec

KNOWN_VERSIONS = versions.KNOWN
"""Every released version, oldest first."""

compare = versions.compare

EARLIEST = versions.EARLIEST
"""The version of a spec without any later field. The standard's library refuses older versions
since release 0.4.0."""


def minimum_version(spec: Spec) -> str:
    """Return the lowest version that has every field of ``spec``; its own version is ignored."""
    return next((version for version, _ in reasons(spec)), EARLIEST)


def reasons(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Return the version that each feature of ``spec`` needs, and the feature, newest first.

    For example ``("0.7.0", "intelRdt")``.
    """
    return tuple(versions.needs(to_document(spec)))


def is_known(version: str) -> bool:
    """Whether ``version`` is a released version of the standard."""
    return version in KNOWN_VERSIONS
