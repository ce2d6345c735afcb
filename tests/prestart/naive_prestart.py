# SPDX-License-Identifier: Apache-2.0
"""What a prestart hook must not be: the mounts of a spec, done as one does them in an afternoon.

The control of test_hostile_images.py; it is run where only the test's own folder can be written to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

state = json.load(sys.stdin)
with open(f"{state['bundle']}/config.json", encoding="utf-8") as file:
    root = os.path.join(state["bundle"], json.load(file)["root"]["path"])
with open(sys.argv[1], encoding="utf-8") as file:
    mounts = json.load(file)["containerEdits"]["mounts"]

MAKE = (
    'if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "${2%/*}"; : >>"$2"; fi; mount --bind "$@"'
)

for mount in mounts:
    enter = ["nsenter", "-t", str(state["pid"]), "-m", "sh", "-c", MAKE, "sh"]
    subprocess.run([*enter, mount["hostPath"], root + mount["containerPath"]], check=False)
