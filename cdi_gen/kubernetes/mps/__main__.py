# SPDX-License-Identifier: Apache-2.0
"""Becomes a program of the host. It is run by its path and imports little, to start in 10 ms.

The arguments are the host's root directory, the program, and the program's arguments.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` costs 3 ms
import os
import sys


def main() -> None:
    """Change the root directory and exec the program, with this process's environment."""
    root, program, *arguments = sys.argv[1:]
    # A daemon that outlives the plugin must not keep the plugin's connections open.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)  # which Python ignores
    try:
        if root != "/":
            os.chroot(root)
        os.chdir("/")
        os.execve(program, [program, *arguments], os.environ)  # noqa: S606
    except OSError as error:
        sys.exit(f"{program} cannot be run in {root}: {error.strerror}")


if __name__ == "__main__":
    main()
