# SPDX-License-Identifier: Apache-2.0
"""The system of the image, of Debian's packages: Python, the libraries that it needs, a shell.

No script of a package runs, so that any architecture can be laid out on any machine.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tools import debian
from tools.steps import run

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's and OCI's name of each architecture."""

PYTHON = "python3.13"
NOBODY = 65532
"""The user and the group ``nonroot``, as in other images without a distribution."""

SHELL = ("cat", "sh", "sleep")
"""Programs that the scripts of the GPU Operator run in the image; busybox is all of them."""

_MERGED = ("bin", "lib", "lib64", "sbin")
"""Directories of ``/`` that are links into ``/usr``."""

_LIBRARIES = (
    *(
        "libc",
        "libdl",
        "libm",
        "libnss_dns",
        "libnss_files",
        "libpthread",
        "libresolv",
        "librt",
        "libutil",
    ),
    *("libcrypto", "libexpat", "libffi", "libgcc_s", "libssl", "libstdc++", "libz", "libzstd"),
)
_KEPT = (
    *(
        "etc/os-release",
        "usr/lib/os-release",
        "usr/bin/busybox",
        f"usr/bin/{PYTHON}",
        f"usr/lib/{PYTHON}/**/*",
    ),
    *("usr/lib/ld-linux-*", "usr/lib64/ld-linux-*", "usr/lib/*-linux-gnu/ld-linux-*"),
    *(f"usr/lib/*-linux-gnu/{name}.so*" for name in _LIBRARIES),
    *("usr/share/doc/*/copyright", "usr/share/common-licenses/*"),
)
"""The files of Debian's packages that are part of the image."""

# Modules that need a compiler, a terminal, a desktop, or a library that is not part of the image.
_REMOVED_MODULES = (
    *("curses", "dbm", "sqlite3"),
    *(
        "ensurepip",
        "idlelib",
        "pydoc_data",
        "test",
        "tkinter",
        "turtledemo",
        "venv",
        "__phello__",
        "turtle.py",
    ),
    *("sitecustomize*", "_sysconfigdata*", "config-*", "EXTERNALLY-MANAGED", "LICENSE.txt"),
    *(
        f"lib-dynload/{name}.*"
        for name in ("_bz2", "_curses*", "_dbm", "_lzma", "_sqlite3", "_uuid", "readline")
    ),
    *(f"lib-dynload/{name}*" for name in ("_test", "_xx", "xx", "_ctypes_test")),
)

_FILES = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nnonroot:x:{nobody}:{nobody}:nonroot:/:/bin/false\n",
    "etc/group": "root:x:0:\nnonroot:x:{nobody}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def lay_out(root: Path, architecture: str) -> None:
    """Fill an empty directory with the system.

    Raises:
        BuildError: a package is not in the cache and cannot be downloaded.
    """
    (root / "usr/share/doc").mkdir(parents=True)
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    records = root / "var/lib/dpkg/status.d"
    records.mkdir(parents=True)
    for package, (archive,) in debian.fetch(ARCHITECTURES[architecture]).items():
        with tempfile.TemporaryDirectory() as unpacked:
            run("dpkg-deb", "--extract", archive, unpacked)
            _move_kept(Path(unpacked), root)
        # Here scanners of images without dpkg look for packages.
        (records / package).write_text(run("dpkg-deb", "--field", archive), "utf-8")
    for pattern in _REMOVED_MODULES:
        for path in [*(root / "usr/lib" / PYTHON).glob(pattern)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, text in _FILES.items():
        (root / name).write_text(text.format(nobody=NOBODY), "ascii")
    (root / "usr/bin/python3").symlink_to(PYTHON)
    for name in SHELL:
        (root / "usr/bin" / name).symlink_to("busybox")


def _move_kept(unpacked: Path, root: Path) -> None:
    """Move the files of a package that are kept into the root."""
    for pattern in _KEPT:
        for path in sorted(unpacked.glob(pattern)):
            target = root / path.relative_to(unpacked)
            if path.is_dir() and not path.is_symlink():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
    for path in (unpacked / "usr/share/doc").iterdir():
        if path.is_symlink():  # to the directory of another package, which has the license
            path.rename(root / path.relative_to(unpacked))
