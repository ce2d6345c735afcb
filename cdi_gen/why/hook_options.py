# SPDX-License-Identifier: Apache-2.0
"""Compares the options of a spec's hook with those that the installed program knows.

The program of cdi-gen is a script beside its modules, which are read and not run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from cdi_base import HOOK, files
from cdi_gen.cdi.model import Hook

_MAX_BYTES = 1 << 18
_MODULES = "cdi_hook"


def unknown(path: str, hook: Hook) -> list[str]:
    """Return the options of a hook that its installed program does not know.

    Args:
        path: of the program for this process. A program without readable modules, and a program
            that is not cdi-gen's, is not judged.
        hook: the hook of the spec.
    """
    real = os.path.realpath(path)
    if os.path.basename(real) != HOOK:
        return []
    text = "\n".join(_modules(os.path.join(os.path.dirname(real), _MODULES)))
    options = dict.fromkeys(
        word.partition("=")[0] for word in hook.args[1:] if word.startswith("--")
    )
    return [option for option in options if text and f'"{option}"' not in text]


def _modules(directory: str) -> Iterator[str]:
    for parent in (directory, os.path.join(directory, "steps"), os.path.join(directory, "ldso")):
        try:
            names = sorted(os.listdir(parent))
        except OSError:
            continue
        for name in names:
            if name.endswith(".py"):
                try:
                    content = files.read(os.path.join(parent, name), _MAX_BYTES, follow=True)
                except OSError:
                    continue
                yield content.decode("utf-8", "replace")
