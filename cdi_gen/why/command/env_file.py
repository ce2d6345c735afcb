# SPDX-License-Identifier: Apache-2.0
"""Reads ``--env-file``: only a regular file, only a part of it, only variables that matter here."""

from __future__ import annotations

from collections.abc import Mapping

from cdi_base import files
from cdi_base.errors import shown
from cdi_base.findings import Finding

MAX_BYTES = 1 << 20
_PREFIXES = ("NVIDIA_", "CUDA_")


def read(path: str, environment: Mapping[str, str]) -> tuple[list[tuple[str, str]], list[Finding]]:
    """The variables of a file whose names begin with ``NVIDIA_`` or ``CUDA_``.

    A line is ``NAME=value``, or a name that takes the value of this process.
    """
    try:
        content = files.read(path, MAX_BYTES, follow=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"--env-file {shown(path)} cannot be read: {reason}"
        return [], [Finding("CDG-Y102", "warning", message, subject=path)]
    variables = []
    for line in content.decode("utf-8", "replace").splitlines():
        name, equals, value = line.lstrip().partition("=")
        if not name.startswith(_PREFIXES):
            continue
        if equals:
            variables.append((name, value))
        elif name.strip() in environment:
            variables.append((name.strip(), environment[name.strip()]))
    return variables, []
