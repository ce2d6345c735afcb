# SPDX-License-Identifier: Apache-2.0
"""What a container is asked, and what its answers say of how much of the GPU reached it.

The image's own loader finds a driver's library only by the cache that the hook writes, and a fake
GPU's node tells what became of it: ENXIO, it is there and may be opened, but no driver is behind it.
"""

from __future__ import annotations

import re

from tests.lab.probe import answers, probe

IMAGE = "rhel"
"""Its loader looks in /usr/lib64 alone: the libraries, in a Debian folder, it must be told of."""

NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm")
OTHER_GPU = "/dev/nvidia1"
LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")
FILE = "/usr/bin/nvidia-smi"
LINK = "/usr/lib/x86_64-linux-gnu/libcuda.so"
VARIABLE = "NVIDIA_CTK_LIBCUDA_DIR"

WORDS = probe(
    ("open", *NODES, OTHER_GPU),
    ("dlopen", *LIBRARIES),
    ("stat", FILE),
    ("readlink", LINK),
    ("env", VARIABLE),
)
"""The command of every container of the matrix."""

_ANSWER = re.compile(r"\b(?:open|dlopen|stat|readlink|env)\t.*")


def lacking(printed: str, *, every: bool) -> tuple[str, ...]:
    """What the container has not got, in words; nothing: it has it all. No answers: nothing at all.

    Args:
        printed: what the engine printed, the container's answers somewhere in it.
        every: whether it is to have another GPU, too; else it is to have none.
    """
    found = answers("\n".join(_ANSWER.findall(printed)))
    if not found:
        return ("container",)
    opened = {path: found["open", path][0] for path in NODES}
    parts = {
        "nodes": not {"ENXIO", "ok", "EPERM", "EACCES"}.issuperset(opened.values()),
        "permission": not {"EPERM", "EACCES"}.isdisjoint(opened.values()),
        "mounts": found["stat", FILE][0] != "f",
        "links": found["readlink", LINK][0] != LIBRARIES[0],
        "libraries": any(found["dlopen", name][0] != "ok" for name in LIBRARIES),
        "variables": found["env", VARIABLE][0] != "set",
        "other GPUs": every and found["open", OTHER_GPU][0] == "ENOENT",
        "isolation": not every and found["open", OTHER_GPU][0] != "ENOENT",
    }
    return tuple(name for name, lacks in parts.items() if lacks)
