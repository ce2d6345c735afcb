# SPDX-License-Identifier: Apache-2.0
"""OCI hooks in hooks.d, which Podman and CRI-O add to every container.

They are for engines without CDI. The prestart hook changes only containers that request a GPU.
"""

from __future__ import annotations

import json

from cdi_gen.engines import facts
from cdi_gen.engines.plan import Change
from cdi_gen.paths import base_name, join

FILE = "oci-nvidia-hook.json"
"""The name of NVIDIA's file, which our file replaces."""

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def hook_file(hook: str) -> str:
    """The file that runs a prestart hook for every container (version 1.0.0 of oci-hooks(5))."""
    document = {
        "version": "1.0.0",
        "hook": {
            "path": hook,
            "args": [base_name(hook), "prestart"],
            # Never empty: runc before 1.3 would pass the environment of the image.
            "env": [_PATH],
        },
        "when": {"always": True, "commands": [".*"]},
        "stages": ["prestart"],
    }
    return json.dumps(document, indent=2) + "\n"


def change(hook: str) -> Change:
    """The change that writes the file for a hook."""
    return Change(join(facts.podman().hooks_directory, FILE), lambda _: hook_file(hook))
