# SPDX-License-Identifier: Apache-2.0
"""Reads which daemon Docker's command asks: the current context of its configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress

from cdi_base import files

_MAX_BYTES = 1 << 20


def current(environment: Mapping[str, str]) -> str:
    """The context that ``docker context use`` set; empty if it set none.

    Args:
        environment: of Docker's command.
    """
    home = environment.get("HOME", "")
    directory = environment.get("DOCKER_CONFIG") or (home and os.path.join(home, ".docker"))
    if not directory:
        return ""
    context: object = ""
    with suppress(OSError, ValueError, RecursionError):
        document = json.loads(
            files.read(os.path.join(directory, "config.json"), _MAX_BYTES, follow=True)
        )
        context = document.get("currentContext") if isinstance(document, dict) else ""
    return context if isinstance(context, str) else ""
