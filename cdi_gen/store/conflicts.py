# SPDX-License-Identifier: Apache-2.0
"""Which of the files of one directory that define the same device should stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cdi_base import HOOK
from cdi_gen.paths import base_name
from cdi_gen.store.registry import SpecFile

GENERATED_NAMES = ("nvidia.json", "nvidia-")
"""The names of the files that cdi-gen and its units write; the second one is a beginning."""


class Choice(NamedTuple):
    """The file that stays, and the others."""

    kept: str
    reason: str
    """Why: a predicate of the file that stays."""
    obsolete: tuple[str, ...]


def choose(files: Sequence[SpecFile], modified: Callable[[str], float]) -> Choice:
    """Return the file that stays: one that cdi-gen writes again, or else the newest.

    Args:
        files: that define the same device.
        modified: returns when the file of a path was last written.
    """

    def rank(file: SpecFile) -> tuple[bool, bool, float]:
        return _has_own_hook(file), _has_generated_name(file), modified(file.path)

    *others, kept = sorted(files, key=rank)
    is_preferred = (rank(kept)[:2]) > max(rank(file)[:2] for file in others)
    reason = "is the file that cdi-gen writes" if is_preferred else "is the newest"
    return Choice(kept.path, reason, tuple(file.path for file in others))


def _has_own_hook(file: SpecFile) -> bool:
    if file.spec is None:
        return False
    edits = (file.spec.container_edits, *(device.container_edits for device in file.spec.devices))
    return any(base_name(hook.path) == HOOK for edit in edits for hook in edit.hooks)


def _has_generated_name(file: SpecFile) -> bool:
    exact, beginning = GENERATED_NAMES
    name = base_name(file.path)
    return name == exact or (name.startswith(beginning) and name.endswith(".json"))
