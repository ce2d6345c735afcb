# SPDX-License-Identifier: Apache-2.0
"""Runtimes in the configurations of engines."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from cdi_base.findings import Finding
from cdi_gen.engines.change.record import Value
from cdi_gen.engines.change.reversal import Keep
from cdi_gen.engines.text.syntax import Path, Syntax
from cdi_gen.paths import base_name

_NVIDIA = re.compile(r"nvidia|cdi-gen-runtime")
_CDI_ANNOTATION = "cdi.k8s.io/"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RESERVED = ("runc", "crun", "io.containerd.runc.v2")
"""Names that engines use for their built-in runtimes."""

ANNOTATION_LISTS = ("pod_annotations", "container_annotations", "allowed_annotations")


def is_nvidia(name: str, program: str) -> bool:
    """Whether a runtime is NVIDIA's shim or ours."""
    return bool(_NVIDIA.search(name) or _NVIDIA.search(base_name(program)))


def derive_runtime(model: dict[str, Any]) -> dict[str, Any]:
    """The options of a runtime, for another runtime that behaves in the same way.

    Annotations by which a pod could request CDI devices are not passed through: a user with
    permission to annotate a pod may not have permission to give the pod a device.
    """
    options = dict(model)
    for name in ANNOTATION_LISTS:
        patterns = options.get(name)
        if isinstance(patterns, list):
            kept = [pattern for pattern in patterns if not _matches_cdi(str(pattern))]
            if kept:
                options[name] = kept
            else:
                del options[name]
    return options


def _matches_cdi(pattern: str) -> bool:
    """Whether a CDI annotation matches; containerd reads a file name pattern, CRI-O a prefix."""
    annotation = f"{_CDI_ANNOTATION}x"
    return (
        fnmatchcase(annotation, pattern)
        or annotation.startswith(pattern)
        or _CDI_ANNOTATION in pattern
    )


def keep_default_runtime(
    syntax: Syntax, runtimes: Path, default: Path, default_elsewhere: str | None = None
) -> Keep:
    """Keep our runtime if the administrator made it the default: a revert must not remove it.

    An engine whose default runtime is not one of its runtimes does not start.

    Args:
        syntax: of the file.
        runtimes: the table of runtimes in the file.
        default: the key of the default runtime in the file.
        default_elsewhere: the default runtime that other files name and do not define.
    """

    def keep(value: Value, text: str | None) -> str | None:
        name = value.path[-1]
        if value.path[:-1] != runtimes or syntax.find(text or "", value.path) is not None:
            return None
        chosen = syntax.find(text or "", default)
        if (syntax.value(chosen) if chosen is not None else default_elsewhere) != name:
            return None
        return f"{name} is kept: {default[-1]} names it, and cdi-gen did not set that"

    return keep


def another_default(path: str, drop_in: str, default: str) -> Finding:
    """The finding that a file which is read after ours makes another runtime the default."""
    message = f"{path} is read after {drop_in} and makes {default} the default runtime"
    return Finding("CDG-E105", "warning", message, subject=path)


def is_of_another_runtime(value: Value, syntax: Syntax | None, name: str) -> bool:
    """Whether a value is the entry of another runtime, or makes another runtime the default."""
    if value.path[-2:-1] == ("runtimes",):
        return value.path[-1] != name
    defaults = ("default-runtime", "default_runtime", "default_runtime_name", "runtime")
    return bool(syntax and value.path[-1] in defaults and syntax.value(value.now) != name)
