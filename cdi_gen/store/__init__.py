# SPDX-License-Identifier: Apache-2.0
"""Reads spec directories as engines do, and writes spec files safely.

`read` returns a `Registry`, whose `find` resolves a device name as engines do. `write` writes a
spec.
"""

from __future__ import annotations

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.store.registry import Registry, Resolution, SpecFile, read
from cdi_gen.store.writing import READ_AS_ROOT, check_directory, write, write_text

__all__ = [
    "READ_AS_ROOT",
    "SPEC_DIRECTORIES",
    "Registry",
    "Resolution",
    "SpecFile",
    "check_directory",
    "read",
    "write",
    "write_text",
]
