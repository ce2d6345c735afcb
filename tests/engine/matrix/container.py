# SPDX-License-Identifier: Apache-2.0
"""What a container is asked, and what its answers say of how much of the GPU reached it.

The image's own loader tells which library it finds, the driver's or one of the image's, and a fake
GPU's node what became of it: ENXIO, it is there and may be opened, but no driver is behind it.
"""

from __future__ import annotations

import re

from tests.engine.matrix.homes import HOMES, Home
from tests.lab.probe import answers, probe

NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm")
OTHER_GPU = "/dev/nvidia1"
LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")
FILE = "/usr/bin/nvidia-smi"
LINKS = tuple(f"{home.libraries}/libcuda.so" for home in HOMES)
VARIABLE = "NVIDIA_CTK_LIBCUDA_DIR"

WORDS = probe(
    ("open", *NODES, OTHER_GPU),
    ("who", *LIBRARIES),
    ("listed", *LIBRARIES),
    ("stat", FILE),
    ("readlink", *LINKS),
    ("env", VARIABLE),
)
"""The command of every container of the matrix."""

_ANSWER = re.compile(r"\b(?:open|who|listed|stat|readlink|env)\t.*")


def lacking(printed: str, home: Home, *, every: bool) -> tuple[str, ...]:
    """What the container has not got, in words; nothing: it has it all. No answers: nothing at all.

    Args:
        printed: what the engine printed, the container's answers somewhere in it.
        home: whose host and whose image.
        every: whether it is to have another GPU, too; else it is to have none.
    """
    found = answers("\n".join(_ANSWER.findall(printed)))
    if not found:
        return ("container",)
    opened = {path: found["open", path][0] for path in NODES}
    loaded = {name: found["who", name] for name in LIBRARIES}
    own = {name for name, got in loaded.items() if got[0] == "ok" and not got[3]}
    parts = {
        "nodes": not {"ENXIO", "ok", "EPERM", "EACCES"}.issuperset(opened.values()),
        "permission": not {"EPERM", "EACCES"}.isdisjoint(opened.values()),
        "mounts": found["stat", FILE][0] != "f",
        "links": found["readlink", f"{home.libraries}/libcuda.so"][0] != LIBRARIES[0],
        "libraries": not own.issuperset(LIBRARIES),
        "listing": any(
            name not in own or found["listed", name][0] not in got for name, got in loaded.items()
        ),
        "variables": found["env", VARIABLE][0] != "set",
        "other GPUs": every and found["open", OTHER_GPU][0] == "ENOENT",
        "isolation": not every and found["open", OTHER_GPU][0] != "ENOENT",
    }
    return tuple(name for name, lacks in parts.items() if lacks)
