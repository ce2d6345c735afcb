# SPDX-License-Identifier: Apache-2.0
"""``python -m tools.image [--output DIR] [ARCHITECTURE…]``: the OCI images of the commit."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from cdi_base import VERSION
from tools import debian
from tools.image import oci, packages, programs, system
from tools.steps import BuildError, run, say
from tools.tree import CHECKOUT, epoch, export_commit, tar

_CONFIG: dict[str, object] = {
    "Entrypoint": ["/usr/bin/cdi-gen"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"],
    "WorkingDir": "/",
    # The kubelet's sockets and the host's files belong to root; for the rest there is `nonroot`.
    "User": "0:0",
}


def build(architecture: str, source: Path, revision: str, time: int) -> tuple[bytes, str]:
    """Return the archive of the image of an architecture, and the digest of its manifest.

    Args:
        architecture: ``x86_64`` or ``aarch64``.
        source: the files of the commit.
        revision: the commit.
        time: of every file, and of the image.

    Raises:
        BuildError: a package cannot be downloaded, or a build fails.
    """
    created = datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.description": "NVIDIA GPUs for containers and pods",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.title": "cdi-gen",
        "org.opencontainers.image.version": VERSION,
    }
    with tempfile.TemporaryDirectory() as directory:
        roots = [Path(directory, name) for name in ("system", "dependencies", "cdi-gen")]
        for root in roots:
            root.mkdir()
        base, dependencies, own = roots
        say(f"laying out the image for {architecture}")
        system.lay_out(base, architecture)
        programs.add_dependencies(dependencies, architecture)
        programs.add_cdi_gen(own, source, architecture)
        for root in roots:
            programs.compile_all(root)
        listed = packages.installed(roots, architecture)
        document = packages.document(listed, created=created, version=VERSION)
        (own / packages.PATH).write_text(document, "utf-8")
        names = (f"Debian {debian.suite()}", "requirements/image.txt", f"cdi-gen {VERSION}")
        layers = [
            oci.Layer(name, tar(root, time=time)) for name, root in zip(names, roots, strict=True)
        ]
    image = oci.Image(system.ARCHITECTURES[architecture], created, _CONFIG, labels, layers)
    return oci.archive(image, f"localhost/cdi-gen:{VERSION}")


def main() -> int:
    """Write the archives; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.image", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument(
        "architectures", nargs="*", metavar="ARCHITECTURE", help="default: this machine's"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.architectures) - set(system.ARCHITECTURES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(system.ARCHITECTURES)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    if run("git", "-C", CHECKOUT, "status", "--porcelain"):
        say("warning: the image has what is committed, without the changes of the working tree")
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch())
    try:
        with tempfile.TemporaryDirectory() as directory:
            revision = export_commit(Path(directory))
            for architecture in arguments.architectures or [platform.machine()]:
                content, digest = build(architecture, Path(directory), revision, epoch())
                path = arguments.output / f"cdi-gen-image-{VERSION}-{architecture}.tar"
                path.write_bytes(content)
                print(f"{digest}  {path}  {len(content) / 1e6:.1f} MB")  # noqa: T201
    except BuildError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
