# SPDX-License-Identifier: Apache-2.0
"""``python -m tools.bundle [--output DIR] [ARCHITECTURE…]``: the bundles as archives."""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

from cdi_base import VERSION
from tools.bundle import contents, cpython
from tools.steps import BuildError, say
from tools.tree import compress, epoch, tar


def main() -> int:
    """Write the archives; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument(
        "architectures", nargs="*", metavar="ARCHITECTURE", help=" or ".join(cpython.ARCHITECTURES)
    )
    arguments = parser.parse_args()
    unknown = set(arguments.architectures) - {*cpython.ARCHITECTURES}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(cpython.ARCHITECTURES)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    try:
        for architecture in arguments.architectures or cpython.ARCHITECTURES:
            path = arguments.output / f"cdi-gen-bundle-{VERSION}-{architecture}.tar.gz"
            with tempfile.TemporaryDirectory() as directory:
                contents.lay_out(Path(directory), architecture)
                content = compress(tar(Path(directory), prefix="cdi-gen/", time=epoch()))
            path.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            print(f"{digest}  {path}  {len(content) / 1e6:.1f} MB")  # noqa: T201
    except BuildError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
