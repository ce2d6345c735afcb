# SPDX-License-Identifier: Apache-2.0
"""The program ``cdi-gen``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from cdi_gen.cli import run  # noqa: PLC0415 - importing this module costs nothing

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
