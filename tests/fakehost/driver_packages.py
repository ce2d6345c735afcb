# SPDX-License-Identifier: Apache-2.0
"""Driver roots: whole Debian roots with NVIDIA's real driver packages installed.

Each root is built once, by a real apt and a real dpkg, because Debian's alternatives, diversions
and ``ld.so.cache`` are the work of maintainer scripts: unpacked packages alone lack some fifty
public links. The roots are kept in the user's cache; nothing may write into them afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPONENTS = "main contrib non-free non-free-firmware"

# Nothing reads these, and they are half of a minimal Debian.
UNUSED = (
    "usr/lib/gcc",
    "usr/lib/udev/hwdb.d",
    "usr/lib/xorg/protocol.txt",
    "usr/share/X11/xkb",
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/misc",
    "usr/share/zoneinfo",
    "var/cache",
    "var/lib/apt",
    "var/log",
)
# The kernel's part of a root: a host gets its own.
KERNEL_DIRECTORIES = ("dev", "proc", "run", "sys", "tmp")


class DriverRootUnavailableError(Exception):
    """This machine cannot build a driver root; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSet:
    """A set of Debian packages that make one NVIDIA driver's user space."""

    name: str
    suite: str
    packages: tuple[str, ...]
    architectures: tuple[str, ...] = ("amd64",)
    directory: str
    """Where Debian keeps the libraries that alternatives choose from, below the multiarch one."""

    @property
    def key(self) -> str:
        """Name in the cache; another recipe has another key."""
        recipe = repr((self, UNUSED, KERNEL_DIRECTORIES))
        return f"{self.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"


_COMMON = ("nvidia-persistenced", "nvidia-modprobe")
_SERVER = (
    *("libcuda1", "libcudadebugger1", "libnvidia-ml1", "nvidia-smi", "libnvidia-cfg1"),
    *("libnvidia-ptxjitcompiler1", "libnvidia-nvvm4", "libnvidia-pkcs11-openssl3"),
    *("nvidia-opencl-icd", "libnvcuvid1", "libnvidia-encode1", "libnvidia-opticalflow1"),
    *("nvidia-cuda-mps", "nvidia-driver-bin", "firmware-nvidia-gsp", "nvidia-kernel-support"),
    *_COMMON,
)
_GRAPHICS_535 = (
    *("nvidia-driver-libs", "libgl1-nvidia-glvnd-glx", "libglx-nvidia0", "libegl-nvidia0"),
    *("libgles-nvidia1", "libgles-nvidia2", "nvidia-egl-icd", "nvidia-vulkan-icd"),
    *("libnvidia-glcore", "libnvidia-eglcore", "libnvidia-glvkspirv", "libnvidia-rtcore"),
    *("libnvoptix1", "libnvidia-ngx1", "libnvidia-api1", "libnvidia-allocator1"),
    *("libnvidia-fbc1", "nvidia-vdpau-driver", "xserver-xorg-video-nvidia"),
    *("libnvidia-egl-gbm1", "libnvidia-egl-wayland1", "nvidia-xconfig"),
)
_GRAPHICS_550 = (*_GRAPHICS_535, "libnvidia-gpucomp")
_I386 = (
    *("libcuda1:i386", "libnvidia-ml1:i386", "libnvidia-encode1:i386"),
    *("libnvidia-allocator1:i386", "libgl1-nvidia-glvnd-glx:i386", "libglx-nvidia0:i386"),
    *("libegl-nvidia0:i386", "nvidia-vdpau-driver:i386"),
)


def _tesla(branch: str, libraries: str, programs: str, others: tuple[str, ...]) -> tuple[str, ...]:
    return (
        *(f"libnvidia-tesla-{branch}-{library}" for library in libraries.split()),
        *(f"nvidia-tesla-{branch}-{program}" for program in programs.split()),
        *others,
        *_COMMON,
    )


_TESLA_LIBRARIES = (
    "cuda1 ml1 cfg1 ptxjitcompiler1 nvvm4 nvcuvid1 encode1 opticalflow1 eglcore glcore glvkspirv "
    "rtcore nvoptix1 ngx1 allocator1 fbc1"
)
_TESLA_PROGRAMS = (
    "smi opencl-icd driver-bin kernel-support driver-libs egl-icd vulkan-icd vdpau-driver"
)

DRIVER_SETS = {
    each.name: each
    for each in (
        DriverSet(
            name="550-full",
            suite="trixie",
            packages=(*_SERVER, *_GRAPHICS_550, *_I386),
            architectures=("amd64", "i386"),
            directory="nvidia/current",
        ),
        DriverSet(name="550-server", suite="trixie", packages=_SERVER, directory="nvidia/current"),
        DriverSet(
            name="535-full",
            suite="bookworm",
            packages=(*_SERVER, *_GRAPHICS_535),
            directory="nvidia/current",
        ),
        DriverSet(
            name="470-tesla",
            suite="bookworm",
            packages=_tesla(
                "470",
                f"{_TESLA_LIBRARIES} cbl ifr1",
                _TESLA_PROGRAMS,
                ("libgl1-nvidia-tesla-470-glvnd-glx", "libglx-nvidia-tesla-470-0"),
            ),
            directory="nvidia/tesla-470",
        ),
        # Two drivers side by side, as Debian's alternatives allow: one is loaded, one is chosen.
        DriverSet(
            name="470-tesla+535",
            suite="bookworm",
            packages=(
                *_tesla(
                    "470",
                    f"{_TESLA_LIBRARIES} cbl ifr1",
                    _TESLA_PROGRAMS,
                    ("libglx-nvidia-tesla-470-0", "xserver-xorg-video-nvidia-tesla-470"),
                ),
                *_SERVER,
                *_GRAPHICS_535,
            ),
            directory="nvidia/current",
        ),
        DriverSet(
            name="535-tesla",
            suite="trixie",
            packages=_tesla(
                "535",
                f"{_TESLA_LIBRARIES} cudadebugger1 pkcs11-openssl3 api1",
                _TESLA_PROGRAMS,
                ("firmware-nvidia-tesla-535-gsp", "libglx-nvidia-tesla-535-0"),
            ),
            directory="nvidia/tesla-535",
        ),
    )
}


def cache_directory() -> Path:
    """Where fake hosts, driver roots and compiled mocks are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cdi-gen"


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold ``target``'s lock file, so that two test runs do not build the same thing at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{target}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def driver_root(name: str) -> Path:
    """The root of a driver set, built when it is not there yet.

    Raises:
        DriverRootUnavailableError: it is not cached and cannot be built here.
    """
    driver_set = DRIVER_SETS[name]
    base = cache_directory() / "driver-roots"
    root = base / driver_set.key
    if root.is_dir():
        return root
    if root in _unavailable:
        raise _unavailable[root]
    with locked(base / name):
        if not root.is_dir():
            building = base / f"{name}.building"
            shutil.rmtree(building, ignore_errors=True)
            try:
                _build(driver_set, building)
            except DriverRootUnavailableError as error:
                _unavailable[root] = error
                raise
            building.rename(root)
    return root


FOREIGN = {
    "550-arm64": ("trixie", "arm64", ("libcuda1", "libnvidia-ml1", "libnvidia-ptxjitcompiler1")),
}
"""Suite, architecture and packages of drivers whose maintainer scripts this machine cannot run."""


def foreign_root(name: str) -> Path:
    """The unpacked packages of another architecture: the files, and no alternatives.

    Raises:
        DriverRootUnavailableError: they are not cached and cannot be fetched here.
    """
    suite, architecture, packages = FOREIGN[name]
    recipe = hashlib.sha256(repr(FOREIGN[name]).encode()).hexdigest()[:8]
    root = cache_directory() / "driver-roots" / f"{name}-{recipe}"
    with locked(root.with_name(name)):
        if not root.is_dir():
            building = root.with_name(f"{name}.building")
            shutil.rmtree(building, ignore_errors=True)
            source = f"deb {_apt_mirror()} {suite} {COMPONENTS}"
            _run(
                [
                    *("mmdebstrap", "--quiet", "--mode=root", "--variant=extract"),
                    *("--format=directory", f"--architectures={architecture}"),
                    *(f"--include={','.join(packages)}", "--aptopt=Acquire::Languages none"),
                    "--skip=check/empty,cleanup/apt,cleanup/reproducible",
                    *(suite, str(building), source),
                ]
            )
            building.rename(root)
    return root


_unavailable: dict[Path, DriverRootUnavailableError] = {}
"""Why, of those that could not be built: a mirror in mid-update fails a minute each time."""


def driver_version(root: Path) -> str:
    """The driver's version, from the one file name that every driver has."""
    found = sorted((root / "usr/lib/x86_64-linux-gnu").rglob("libcuda.so.*.*"))
    return found[0].name.removeprefix("libcuda.so.")


def debian_mirror() -> str:
    """The URI of the Debian archive that this machine's own apt uses."""
    listing = _run(
        [
            *("apt-get", "indextargets", "--format", "$(REPO_URI)"),
            *("Created-By: Packages", "Label: Debian", "Origin: Debian"),
        ]
    )
    uris = listing.split()
    if not uris:
        raise DriverRootUnavailableError(
            "apt on this machine knows no Debian archive (or `apt-get update` has never run)"
        )
    return uris[0]


def _apt_mirror() -> str:
    """The mirror of packages, with the program that installs them in place."""
    if os.geteuid() != 0:
        raise DriverRootUnavailableError("building a driver root needs root")
    if shutil.which("apt-get") is None:
        raise DriverRootUnavailableError("no apt-get: driver roots come from Debian's packages")
    if shutil.which("mmdebstrap") is None:
        _run(["apt-get", "install", "-y", "--no-install-recommends", "mmdebstrap"])
    return debian_mirror()


def _build(driver_set: DriverSet, into: Path) -> None:
    source = f"deb {_apt_mirror()} {driver_set.suite} {COMPONENTS}"
    # 101 is policy-rc.d's "do not start it": the packages bring services.
    no_services = r"""printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
        chmod 755 "$1/usr/sbin/policy-rc.d" """
    packages = " ".join(driver_set.packages)
    # After the essential set, as on a real machine: alternatives are chosen by these scripts.
    install = f"""DEBIAN_FRONTEND=noninteractive chroot "$1" \
        apt-get install -y --no-install-recommends {packages}"""
    _run(
        ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"]
        + [f"--architectures={','.join(driver_set.architectures)}"]
        + ["--aptopt=Acquire::Check-Valid-Until false", "--aptopt=Acquire::Languages none"]
        + [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "locale", "man")]
        + ["--skip=check/empty,cleanup/apt,cleanup/reproducible"]
        + [f"--customize-hook={no_services}", f"--customize-hook={install}"]
        + [driver_set.suite, str(into), source]
    )
    _prune(into)


def _prune(root: Path) -> None:
    for unused in UNUSED:
        path = root / unused
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in KERNEL_DIRECTORIES:
        shutil.rmtree(root / name)
        (root / name).mkdir(mode=0o755)


def _run(command: list[str]) -> str:
    """Standard output of ``command``; its last words as the error when it fails."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, errors="replace")
    except FileNotFoundError as error:
        raise DriverRootUnavailableError(f"{command[0]} is not on this machine") from error
    except subprocess.CalledProcessError as error:
        words = " ".join((error.stderr or error.stdout).strip().splitlines()[-3:])
        raise DriverRootUnavailableError(f"{command[0]} failed: {words}") from error
    return done.stdout
