# SPDX-License-Identifier: Apache-2.0
"""The entry point of the program ``cdi-gen``."""

from __future__ import annotations

import gc
import os
import sys


def nvidia_toolkit() -> None:
    """Run `cdi-gen kubernetes toolkit`, under the name that the GPU Operator starts."""
    sys.argv[1:1] = ["kubernetes", "toolkit"]
    main()


def main() -> None:
    """Run the command line and exit with its exit code.

    A command takes some 50 ms, and its memory is released when the process ends: garbage collection
    during the command and the clean-up of the interpreter would take a fifth of that time.
    """
    try:  # from the first statement on; Ctrl-C during the interpreter's start cannot be caught
        gc.disable()
        sys.unraisablehook = _unraisable
        if None in (sys.stdin, sys.stdout, sys.stderr):
            _reopen_closed_streams()
        from cdi_gen.cli import run  # noqa: PLC0415 - importing this module costs nothing

        code = run(sys.argv[1:])
        os._exit(code)  # `run` has flushed standard output and reported a failure of that
    except KeyboardInterrupt:  # before or after the command itself
        os._exit(_interrupted())


def _interrupted() -> int:
    os.write(2, b"cdi-gen: error: interrupted [CDG-X002]\n")
    return 130


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """End the program after Ctrl-C in code that cannot raise an exception.

    For example in the callback of a weak reference while ``typing`` is imported.
    """
    if unraisable.exc_type is KeyboardInterrupt:
        os._exit(_interrupted())
    sys.__unraisablehook__(unraisable)


def _reopen_closed_streams() -> None:
    """Replace standard streams that the caller closed by empty, read-only ones.

    Otherwise the next file that is opened would get the descriptor of a standard stream, and the
    messages of libraries would be written to that file. Writing to a replaced stream fails.
    """
    descriptor = 0
    while descriptor <= 2:
        descriptor, writing = os.pipe()  # not /dev/null, which a chroot may lack
        os.close(writing)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - for the whole run
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    main()
