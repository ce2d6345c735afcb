# SPDX-License-Identifier: Apache-2.0
"""Images of public reports whose loader looks where specs without a hook mount libraries."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

LIBRARY = "int f(void) {{ return {value}; }}\n"
PROGRAM = '#include <stdio.h>\nint f(void);\nint main(void) { printf("%d", f()); return 0; }\n'
HWCAPS = "usr/lib/glibc-hwcaps/x86-64-v2"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with a library for any processor, and one for newer processors, in its cache."""
    if not shutil.which("cc") or not Path("/lib64/ld-linux-x86-64.so.2").exists():
        pytest.skip("needs a C compiler and glibc of x86_64")
    root = tmp_path / "image"
    for name in (HWCAPS, "lib64", "etc", "bin", "driver"):
        (root / name).mkdir(parents=True)
    shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib64")
    libc = subprocess.run(
        ["cc", "-print-file-name=libc.so.6"], capture_output=True, text=True, check=True
    )
    shutil.copy(libc.stdout.strip(), root / "usr/lib/libc.so.6")
    source = tmp_path / "f.c"
    for value, directory in ((1, root / "usr/lib"), (2, root / HWCAPS)):
        source.write_text(LIBRARY.format(value=value))
        library = directory / "libf.so.1"
        options = ["-shared", "-fPIC", "-Wl,-soname,libf.so.1"]
        subprocess.run(["cc", *options, "-o", library, source], check=True)
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-o", root / "bin/f", source, root / "usr/lib/libf.so.1"], check=True)
    (root / "etc/ld.so.conf").write_text("/usr/lib\n")
    subprocess.run(["ldconfig", "-X", "-r", root], check=True)
    return root


def _run(image: Path) -> str:
    return subprocess.run(
        ["chroot", image, "/bin/f"], capture_output=True, text=True, check=True
    ).stdout


def test_a_library_that_the_driver_hides_has_a_substitute(image: Path) -> None:
    """canonical/snapd#15183: AOSC OS has libc.so.6 in /usr/lib/glibc-hwcaps/x86-64-v4.

    A spec without a hook mounts the driver's links on x86-64-v2. The image's cache still names the
    hidden library; the loader takes the one for any processor, which every distribution has.
    """
    assert _run(image) == "2"
    subprocess.run(["mount", "--bind", image / "driver", image / HWCAPS], check=True)
    assert _run(image) == "1"
