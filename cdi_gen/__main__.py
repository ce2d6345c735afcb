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
    gc.disable()
    from cdi_gen.cli import run  # noqa: PLC0415 - importing this module costs nothing

    code = run(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # standard output was flushed where a failure could still be told


if __name__ == "__main__":
    main()
