# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen-runtime`: what engines start as their low-level runtime for `--runtime=nvidia`.

Before a container is made its bundle gets the edits of what it asks for; then the shim becomes runc
or crun, with the arguments it got. For every other command it does nothing but that, and so
imports nothing that only the first needs.
"""

from __future__ import annotations

import os
import sys

from cdi_base import RUNTIME, VERSION, process
from cdi_base.errors import EXPECTED, explain, shown
from cdi_runtime.config_toml import configuration
from cdi_runtime.shim import command_line, oci_runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn  # noqa: TID251

    from cdi_runtime.config_toml.settings import Configuration
    from cdi_runtime.shim.command_line import Invocation


MODES = {".cdi": "cdi", ".legacy": "legacy"}
"""What a program's name may end in, and the mode that it then has whatever config.toml says."""


def main() -> NoReturn:
    """Run as a program; never returns."""
    sys.excepthook = _last_words
    words = sys.argv[1:]
    asked = command_line.read(words)
    if asked.version:
        # Engines read both; the runtime's own comes after it.
        os.write(1, f"{RUNTIME} version {VERSION}\n".encode())
    try:
        settings = configuration.load()
        if asked.edits_a_bundle():
            _edit(asked, settings)
        oci_runtime.become(oci_runtime.find(settings.runtimes), words)
    except EXPECTED as error:
        _refuse(*explain(error), asked)


def _edit(asked: Invocation, settings: Configuration) -> None:
    # Everything is imported before the first byte of a bundle is read.
    from cdi_runtime.shim import create  # noqa: PLC0415

    for ending, mode in MODES.items():
        if sys.argv[0].endswith(ending):
            settings.mode = mode
    # Taken off again before the runtime takes the process over.
    with process.Bounds():
        create.edit(asked, settings)


def _last_words(
    kind: type[BaseException], fault: BaseException, _traceback: TracebackType | None
) -> NoReturn:
    """A fault of ours, or an interruption, in one line where engines look for it."""
    message = f"internal error, please report it: {kind.__name__}: {shown(str(fault))}"
    code = "CDG-X001"
    if kind is KeyboardInterrupt:
        message, code = "interrupted; config.json is whole", "CDG-X002"
    _refuse(message, code, command_line.read(sys.argv[1:]))


def _refuse(message: str, code: str, asked: Invocation) -> NoReturn:
    from cdi_runtime.shim import log  # noqa: PLC0415

    log.failed(message, code, asked)
    os._exit(1)
