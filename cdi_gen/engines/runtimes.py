# SPDX-License-Identifier: Apache-2.0
"""Runtimes as engines' configurations list them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from cdi_gen.paths import base_name

_OURS = re.compile(r"nvidia|cdi-gen-runtime")
_CDI_ANNOTATION = "cdi.k8s.io/"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
TAKEN = ("runc", "crun", "io.containerd.runc.v2")
"""Names that engines have for runtimes of their own."""

ANNOTATION_LISTS = ("pod_annotations", "container_annotations", "allowed_annotations")


def is_nvidia(name: str, program: str) -> bool:
    """Whether a runtime is NVIDIA's shim or ours."""
    return bool(_OURS.search(name) or _OURS.search(base_name(program)))


def like(model: dict[str, Any]) -> dict[str, Any]:
    """The options of a runtime, for another that is to behave as it does.

    Except that no annotation goes through to it by which a pod could ask for CDI devices: who may
    annotate a pod is not who may give it a device.
    """
    copied = dict(model)
    for name in ANNOTATION_LISTS:
        patterns = copied.get(name)
        if isinstance(patterns, list):
            kept = [each for each in patterns if not _lets_cdi_through(str(each))]
            if kept:
                copied[name] = kept
            else:
                del copied[name]
    return copied


def _lets_cdi_through(pattern: str) -> bool:
    """As containerd reads it, a pattern of file names; or as CRI-O does, a prefix."""
    some = f"{_CDI_ANNOTATION}x"
    return fnmatchcase(some, pattern) or some.startswith(pattern) or _CDI_ANNOTATION in pattern
