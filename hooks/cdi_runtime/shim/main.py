# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen-runtime`, which engines start as their low-level runtime for `--runtime=nvidia`.

Before a container is created, the shim applies the container's request to the bundle. Then the shim
becomes runc or crun, with the same arguments. For any other command the shim becomes the runtime at
once, and does not import the modules that only the creation of a container needs.
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
"""Endings of the program's name, and the mode that each selects in place of config.toml's."""


def main() -> NoReturn:
    """Run the program; never returns."""
    sys.excepthook = _report_internal_error
    arguments = sys.argv[1:]
    invocation = command_line.parse(arguments)
    if invocation.version:
        # The low-level runtime prints its own version after this line; engines read both.
        os.write(1, f"{RUNTIME} version {VERSION}\n".encode())
    try:
        settings = configuration.load()
        if invocation.creates_container():
            _edit(invocation, settings)
        oci_runtime.become(oci_runtime.find(settings.runtimes), arguments)
    except EXPECTED as error:
        _fail(*explain(error), invocation)


def _edit(invocation: Invocation, settings: Configuration) -> None:
    # All modules are imported before the first byte of the bundle is read.
    from cdi_runtime.shim import create  # noqa: PLC0415

    for ending, mode in MODES.items():
        if sys.argv[0].endswith(ending):
            settings.mode = mode
    # The low-level runtime does not inherit these limits.
    with process.Bounds():
        create.edit(invocation, settings)


def _report_internal_error(
    kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
) -> NoReturn:
    """Report a bug of the shim, or an interruption, in one line where engines look for it."""
    message = f"internal error, please report it: {kind.__name__}: {shown(str(error))}"
    code = "CDG-X001"
    if kind is KeyboardInterrupt:
        message, code = "interrupted; config.json is unchanged or complete", "CDG-X002"
    _fail(message, code, command_line.parse(sys.argv[1:]))


def _fail(message: str, code: str, invocation: Invocation) -> NoReturn:
    from cdi_runtime.shim import log  # noqa: PLC0415

    log.report_error(message, code, invocation)
    os._exit(1)
