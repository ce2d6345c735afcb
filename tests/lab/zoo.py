# SPDX-License-Identifier: Apache-2.0
"""Images as people have them: each modelled on what a public image sets and keeps.

A bare distribution, as images.py has it, is kinder than any of these: they list folders of their
own for the loader, have libraries under the driver's names, thousands of others, an environment
that asks for GPUs, an entrypoint, and a user who is not root.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.lab import cuda
from tests.lab.archives import PATH, USUAL, Configuration
from tests.lab.distributions import TRIPLET, Packages, copy, write

DEBIAN_LIBRARIES = f"usr/lib/{TRIPLET}"
RED_HAT_LIBRARIES = "usr/lib64"

MANY = 1600
"""How many libraries more a large image has; PyTorch's and its like have 1,500 and more."""

NOBODY = "65532:65532"
"""Of distroless images; no line of /etc/passwd is about him."""

ENTRYPOINT = """\
#!/bin/sh
LD_LIBRARY_PATH=/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec "$@"
"""

_EGL_VENDOR = '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}\n'
_GRAPHICS = (
    *("libglvnd0", "libgl1", "libglx0", "libegl1", "libgles2", "libopengl0"),
    *("libgbm1", "libvulkan1", "libvdpau1"),
    # What these need, and the driver's own libraries.
    *("libdrm2", "libexpat1", "libffi8", "libwayland-client0", "libwayland-server0", "zlib1g"),
    *("libx11-6", "libxext6", "libxcb1", "libxcb-randr0", "libxau6", "libxdmcp6"),
    *("libbsd0", "libmd0", "libgcc-s1"),
)
_TINI = ("tini",)

Fill = Callable[[Path, Packages], None]


class Image(NamedTuple):
    """An image: a distribution and what it has more."""

    distribution: str
    fill: Fill
    configuration: Configuration = USUAL
    packages: tuple[str, ...] = ()
    """More packages that it is filled from."""


def _cuda_base(tree: Path, _: Packages) -> None:
    cuda.toolkit(tree, "12.4.1")
    cuda.compat(tree, "12.4.1", "550.54.15")


def _cuda_runtime(tree: Path, _: Packages) -> None:
    """Its libcuda is newer than the hosts', and says where it may be used."""
    cuda.toolkit(tree, "13.0.1")
    cuda.compat(tree, "13.0.1", "580.82.07", note=cuda.NOTE)
    write(tree, "opt/nvidia/nvidia_entrypoint.sh", '#!/bin/sh\nexec "$@"\n', mode=0o755)


def _cuda_devel(tree: Path, packages: Packages) -> None:
    _cuda_base(tree, packages)
    cuda.stubs(tree, "12.4.1")


def _cuda_compat(tree: Path, _: Packages) -> None:
    """A newer libcuda without a note, listed before every other folder."""
    cuda.toolkit(tree, "12.8.1")
    cuda.compat(tree, "12.8.1", "570.124.06", conf="000_cuda_compat")


def _cuda_rockylinux(tree: Path, _: Packages) -> None:
    """An older libcuda, listed by the name of its release."""
    cuda.toolkit(tree, "12.4.1")
    cuda.compat(tree, "12.4.1", "550.54.15", conf="cuda-12-4", folder="/usr/local/cuda-12.4/compat")


def _committed(tree: Path, packages: Packages) -> None:
    _cuda_base(tree, packages)
    cuda.leftovers(tree, DEBIAN_LIBRARIES)


def _large(libraries: str) -> Fill:
    def fill(tree: Path, _: Packages) -> None:
        many(tree / libraries, MANY)
        for level in ("x86-64-v2", "x86-64-v3"):
            file = tree / libraries / f"glibc-hwcaps/{level}/libzoo0000.so.1"
            cuda.library(file, "libzoo0000.so.1", level)

    return fill


def _graphics(tree: Path, packages: Packages) -> None:
    for package in _GRAPHICS:
        copy(packages[package], tree)
    write(tree, "usr/share/glvnd/egl_vendor.d/10_nvidia.json", _EGL_VENDOR)


def _nonroot(tree: Path, packages: Packages) -> None:
    copy(packages["tini"], tree, "usr/bin/tini-static")
    _preloaded(tree)


def _service(tree: Path, packages: Packages) -> None:
    _cuda_base(tree, packages)
    copy(packages["tini"], tree, "usr/bin/tini")
    write(tree, "usr/local/bin/entrypoint", ENTRYPOINT, mode=0o755)
    write(tree, "etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
    _preloaded(tree)


def _preloaded(tree: Path) -> None:
    """Where Debian's packages have another malloc, which services like to preload."""
    cuda.library(tree / DEBIAN_LIBRARIES / "libjemalloc.so.2", "libjemalloc.so.2", "preloaded")


_PRELOAD = f"/{DEBIAN_LIBRARIES}/libjemalloc.so.2"

ZOO = {
    "cuda-base": Image("debian", _cuda_base, Configuration(cuda.environment("12.4.1"))),
    "cuda-runtime": Image(
        "debian",
        _cuda_runtime,
        Configuration(
            cuda.environment("13.0.1", NVIDIA_PRODUCT_NAME="CUDA"),
            entrypoint=("/opt/nvidia/nvidia_entrypoint.sh",),
        ),
    ),
    "cuda-devel": Image(
        "trixie",
        _cuda_devel,
        Configuration(cuda.environment("12.4.1", LIBRARY_PATH=cuda.STUBS)),
    ),
    "cuda-compat": Image(
        "bullseye", _cuda_compat, Configuration(cuda.environment_without_requirement())
    ),
    "cuda-rockylinux": Image("rhel", _cuda_rockylinux, Configuration(cuda.environment("12.4.1"))),
    "committed": Image("debian", _committed, Configuration(cuda.environment("12.4.1"))),
    "pytorch": Image(
        "trixie",
        _large(DEBIAN_LIBRARIES),
        Configuration(
            cuda.environment_without_requirement(
                PATH=f"/opt/conda/bin:{PATH}", PYTORCH_VERSION="2.6.0"
            )
        ),
    ),
    "large-bullseye": Image("bullseye", _large(DEBIAN_LIBRARIES)),
    "large-rhel": Image("rhel", _large(RED_HAT_LIBRARIES)),
    "graphics": Image(
        "trixie",
        _graphics,
        Configuration(
            cuda.environment_without_requirement(
                NVIDIA_DRIVER_CAPABILITIES="compute,graphics,utility"
            )
        ),
        packages=_GRAPHICS,
    ),
    "nonroot": Image(
        "distroless",
        _nonroot,
        Configuration(
            {"PATH": PATH, "LD_PRELOAD": _PRELOAD},
            entrypoint=("/usr/bin/tini-static", "--"),
            user=NOBODY,
        ),
        packages=_TINI,
    ),
    "service": Image(
        "debian",
        _service,
        Configuration(
            cuda.environment("12.4.1", LD_PRELOAD=_PRELOAD),
            entrypoint=("/usr/bin/tini", "--", "/usr/local/bin/entrypoint"),
            user="user",
        ),
        packages=_TINI,
    ),
}
"""By name. Three releases of glibc (2.31, 2.36, 2.41), Debian's and Red Hat's layouts."""


def many(folder: Path, count: int) -> None:
    """Fill a folder with libraries that need no other, each with the link of its SONAME."""
    folder.mkdir(parents=True, exist_ok=True)
    cuda.library(folder / "libzoo0000.so.1.0", "libzoo0000.so.1", "baseline")
    template = (folder / "libzoo0000.so.1.0").read_bytes()
    for number in range(count):
        name = f"libzoo{number:04}.so.1"
        (folder / f"{name}.0").write_bytes(template.replace(b"libzoo0000.so.1", name.encode()))
        (folder / name).symlink_to(f"{name}.0")
