# SPDX-License-Identifier: Apache-2.0
"""The versions of the standard, and the lowest that a spec may claim.

An engine ignores a whole file whose version is newer than it knows, or lower than its fields need;
so the right version is always the lowest that the fields allow. Source: the standard's SPEC.md
("Version") and its Go library's ``MinimumRequiredVersion``.
"""

from __future__ import annotations

from cdi_base.cdi import versions
from cdi_gen.cdi.document import to_document
from cdi_gen.cdi.model import Spec

KNOWN_VERSIONS = versions.KNOWN
"""Every released version, oldest first."""

compare = versions.compare

EARLIEST = versions.EARLIEST
"""What a spec without any later field claims; older claims are refused since CDI's own 0.4.0."""


def minimum_version(spec: Spec) -> str:
    """Return the lowest version that has every field ``spec`` uses, whatever it claims."""
    return next((version for version, _ in reasons(spec)), EARLIEST)


def reasons(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Return which version each feature of ``spec`` needs, newest first: ``("0.7.0", ...)``."""
    return tuple(versions.needs(to_document(spec)))


def is_known(version: str) -> bool:
    """Tell whether ``version`` was ever released."""
    return version in KNOWN_VERSIONS
