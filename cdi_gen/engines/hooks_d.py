# SPDX-License-Identifier: Apache-2.0
"""OCI hooks in hooks.d, which Podman and CRI-O add to every container.

For engines that know no CDI: the prestart hook does nothing to a container that asks for nothing.
"""

from __future__ import annotations

import json

from cdi_gen.engines.plan import Change
from cdi_gen.paths import base_name

DIRECTORY = "/usr/share/containers/oci/hooks.d"
"""The one directory that every Podman reads by itself, and CRI-O too."""

FILE = f"{DIRECTORY}/oci-nvidia-hook.json"

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def text_of(hook: str) -> str:
    """The file that has a prestart hook run for every container (version 1.0.0 of oci-hooks(5))."""
    document = {
        "version": "1.0.0",
        "hook": {
            "path": hook,
            "args": [base_name(hook), "prestart"],
            # Never empty: runc before 1.3 would give it the environment of the image.
            "env": [_PATH],
        },
        "when": {"always": True, "commands": [".*"]},
        "stages": ["prestart"],
    }
    return json.dumps(document, indent=2) + "\n"


def change(hook: str) -> Change:
    """The file of this hook. What was there under that name is replaced, for it is the peer's."""
    return Change(FILE, lambda _: text_of(hook))
