# SPDX-License-Identifier: Apache-2.0
"""Runtimes as engines' configurations list them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from cdi_gen.engines.change.record import Value
from cdi_gen.engines.change.reversal import Stays
from cdi_gen.engines.text.syntax import Path, Syntax
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


def needed_as_default(
    syntax: Syntax, runtimes: Path, default: Path, elsewhere: str | None = None
) -> Stays:
    """What must stay: a runtime that somebody else has made the default.

    An engine whose default runtime is none of its runtimes does not start.

    Args:
        syntax: of the file.
        runtimes: where it has runtimes.
        default: where it names the default one.
        elsewhere: the one that other files name, and do not define.
    """

    def stays(value: Value, made: str | None) -> str | None:
        name = value.path[-1]
        if value.path[:-1] != runtimes or syntax.find(made or "", value.path) is not None:
            return None
        chosen = syntax.find(made or "", default)
        if (syntax.value(chosen) if chosen is not None else elsewhere) != name:
            return None
        return f"{name} stays: {default[-1]} names it, and cdi-gen did not set that"

    return stays


def of_another(value: Value, syntax: Syntax | None, name: str) -> bool:
    """Whether a value is of a runtime with another name: its entry, or that it is the default."""
    if value.path[-2:-1] == ("runtimes",):
        return value.path[-1] != name
    defaults = ("default-runtime", "default_runtime", "default_runtime_name", "runtime")
    return bool(syntax and value.path[-1] in defaults and syntax.value(value.now) != name)
