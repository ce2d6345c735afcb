# SPDX-License-Identifier: Apache-2.0
"""The program ``cdi-gen``."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code.

    A command takes some 50 ms and returns everything at once when it ends: to look for garbage on
    the way, and to take the interpreter apart at the end, would cost a fifth of that.
    """
    try:  # first of all: what comes before, the interpreter's start, is nobody's to catch
        gc.disable()
        sys.unraisablehook = _unraisable
        if None in (sys.stdin, sys.stdout, sys.stderr):
            _reopen_closed_streams()
        from cdi_gen.cli import run  # noqa: PLC0415 - importing this module costs nothing

        code = run(sys.argv[1:])
        os._exit(code)  # standard output was flushed where a failure could still be told
    except KeyboardInterrupt:  # before or after the command itself
        os._exit(_interrupted())


def _interrupted() -> int:
    os.write(2, b"cdi-gen: error: interrupted [CDG-X002]\n")
    return 130


def _unraisable(fault: sys.UnraisableHookArgs) -> None:
    """An exception where none can be raised; Ctrl-C is to end the program there too.

    It falls into the callback of a weak reference while ``typing`` is imported, for one.
    """
    if fault.exc_type is KeyboardInterrupt:
        os._exit(_interrupted())
    sys.__unraisablehook__(fault)


def _reopen_closed_streams() -> None:
    """Where the caller closed a stream, reading finds nothing and writing fails as it should.

    Otherwise the next file to be opened would get its number, and a library's complaints.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - for the whole run
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    main()
