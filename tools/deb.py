# SPDX-License-Identifier: Apache-2.0
"""Builds the package for Debian and Ubuntu from the commit: ``python -m tools.deb --output dist``.

The package is the same for all releases. It is built with the packages in ``Build-Depends`` of
``packaging/debian/control``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from email.utils import formatdate
from pathlib import Path

from cdi_base import VERSION
from tools.steps import BuildError, say
from tools.tree import epoch, export_commit

MAINTAINER = "cdi-gen developers <cdi-gen@users.noreply.github.com>"


def debian_version(version: str) -> str:
    """Return the version of the package: a version before a release sorts before the release."""
    for name in (".dev", "a", "b", "rc"):
        head, separator, tail = version.partition(name)
        if separator:
            return f"{head}~{separator.lstrip('.')}{tail}"
    return version


def changelog(version: str, time: int) -> str:
    """Return debian/changelog with one entry: CHANGELOG.md has the changes."""
    return (
        f"cdi-gen ({version}) unstable; urgency=medium\n\n"
        f"  * The changes are in CHANGELOG.md.\n\n"
        f" -- {MAINTAINER}  {formatdate(time)}\n"
    )


def source(root: Path, version: str = VERSION) -> None:
    """Give the sources in a directory what dpkg-buildpackage reads.

    Args:
        root: a copy of the sources.
        version: the version of cdi-gen.
    """
    shutil.copytree(root / "packaging/debian", root / "debian")
    (root / "debian/changelog").write_text(changelog(debian_version(version), epoch()))


def build(root: Path, output: Path) -> list[Path]:
    """Build the package of sources; return the files.

    Raises:
        BuildError: a program that is needed is missing, or the build failed.
    """
    if not shutil.which("dpkg-buildpackage") or not shutil.which("dh"):
        raise BuildError(
            "dpkg-buildpackage and dh are needed: apt-get install dpkg-dev debhelper dh-python, "
            "and what Build-Depends in packaging/debian/control names"
        )
    environment = dict(os.environ, SOURCE_DATE_EPOCH=str(epoch()))
    try:
        subprocess.run(
            ["dpkg-buildpackage", "--build=binary", "--unsigned-changes"],
            cwd=root,
            env=environment,
            check=True,
            stdout=sys.stderr,
        )
    except subprocess.CalledProcessError as error:
        raise BuildError(f"dpkg-buildpackage ended with exit code {error.returncode}") from error
    output.mkdir(parents=True, exist_ok=True)
    packages = sorted(root.parent.glob("*.deb"))
    return [Path(shutil.copy(package, output)) for package in packages]


def main() -> None:
    """Build the package of the commit."""
    parser = argparse.ArgumentParser(prog="python -m tools.deb", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("dist"), help="directory of the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        root = Path(work, f"cdi-gen-{VERSION}")
        root.mkdir()
        export_commit(root)
        source(root)
        for package in build(root, options.output):
            say(f"wrote {package}")


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(f"error: {error}")
