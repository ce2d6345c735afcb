# SPDX-License-Identifier: Apache-2.0
"""What is known of releases of engines, from the table of consumers."""

from __future__ import annotations

from cdi_gen.cdi import consumers


def newest_cdi_version(engine: str, version: str | None) -> str | None:
    """The newest CDI version that a release takes; None if it takes none, or is not known."""
    try:
        return consumers.find(f"{engine}@{version}").newest_cdi_version if version else None
    except consumers.UnknownConsumerError:
        return None
