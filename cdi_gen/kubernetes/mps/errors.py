# SPDX-License-Identifier: Apache-2.0
"""Why devices cannot be shared by MPS at this time."""

from __future__ import annotations

from cdi_gen.errors import CdiGenError


class MpsError(CdiGenError):
    """A control daemon cannot be started, or its directory or program is not usable."""

    code = "CDG-N221"


class SilentDaemonError(MpsError):
    """A control daemon ended, or does not answer."""

    code = "CDG-N222"
