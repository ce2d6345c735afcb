# SPDX-License-Identifier: Apache-2.0
"""Examines the files and variables of an image for what keeps its programs from the GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from cdi_base.findings import Finding
from cdi_base.forward_compatibility import DIRECTORY as COMPAT
from cdi_gen.images.files import Files
from cdi_gen.images.model import Image

LOADERS = {"amd64": "/lib64/ld-linux-x86-64.so.2", "arm64": "/lib/ld-linux-aarch64.so.1"}
"""glibc's dynamic loader, by OCI's name of the architecture; driver libraries need it."""
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
LIBRARY_PATH = "LD_LIBRARY_PATH"
GRAPHICS = frozenset({"graphics", "display"})

NEUTRAL = {
    "libGL.so.1": ("libgl1", "libglvnd-glx"),
    "libEGL.so.1": ("libegl1", "libglvnd-egl"),
    "libXext.so.6": ("libxext6", "libXext"),
    "libvulkan.so.1": ("libvulkan1", "vulkan-loader"),
}
"""Libraries of no vendor that graphics needs, which images must contain: packages of Debian and
Ubuntu, and of Fedora and RHEL. The driver has only the vendor's part behind them."""

USERS = {"video": ("libavcodec.so", "libgstnvcodec.so"), "graphics": ("libvulkan.so.1",)}
"""Libraries that use a capability of the driver, by the capability."""

MAX_FILE = 1 << 20
MAX_DIRECTORIES = 1024
"""The largest number of directories that an image names for its loader and that are looked at."""


def loader(image: Image, files: Files) -> Iterator[Finding]:
    """Yield a fault if the image has no glibc, for which NVIDIA's libraries are built."""
    path = LOADERS.get(image.architecture or "amd64")
    if path is None or files.exists(path):
        return
    musl = next((name for name in files.names("/lib") if name.startswith("ld-musl-")), None)
    if musl:
        yield Finding(
            "CDG-M031",
            "error",
            f"the image has musl (/lib/{musl}) and no {path}: nvidia-smi and libcuda are built "
            'for glibc and fail with "not found" or "symbol not found"',
            subject=path,
            fix="RUN apk add gcompat    (in the Dockerfile; or use a base image with glibc)",
        )
        return
    yield Finding(
        "CDG-M031",
        "error",
        f"the image has no dynamic loader ({path}): only static programs run, and no library of "
        "the driver can be loaded",
        subject=path,
        fix="FROM debian:stable-slim    (or another base image with glibc, such as "
        "distroless/base instead of distroless/static)",
    )


def neutral_libraries(image: Image, files: Files) -> Iterator[Finding]:
    """Yield the libraries that graphics needs and that are missing in the image."""
    directories = list(_directories(image, files))
    missing = [name for name in NEUTRAL if not _has(files, directories, name)]
    if not missing:
        return
    release = (files.read("/etc/os-release", MAX_FILE) or b"").decode("utf-8", "replace")
    is_rpm = any(word in release for word in ("rhel", "fedora", "rocky", "centos"))
    packages = " ".join(NEUTRAL[name][is_rpm] for name in missing)
    command = f"dnf install -y {packages}" if is_rpm else f"apt-get install -y {packages}"
    yield Finding(
        "CDG-M032",
        "warning",
        f"the image asks for graphics and lacks {', '.join(missing)}, which the driver does not "
        "bring: OpenGL, EGL or Vulkan fail although the GPU is there",
        subject=missing[0],
        fix=f"RUN {command}    (in the Dockerfile)",
    )


def wants_graphics(image: Image) -> bool:
    """Whether the image asks for graphics."""
    wanted = set(image.environment.get(CAPABILITIES, "").split(","))
    return bool(wanted & {*GRAPHICS, "all"})


def loader_path(image: Image, files: Files) -> Iterator[Finding]:
    """Yield what the loader would find before the driver's own libcuda."""
    for source, directory in _search_path(image, files):
        location = files.find(directory)
        real = "" if location is None else f"/{location.path}"
        names = files.names(directory)
        libcuda = next((name for name in names if name.startswith("libcuda.so")), None)
        if libcuda is None:
            continue
        if directory.rstrip("/") == COMPAT or real.endswith("/compat"):
            yield Finding(
                "CDG-M110",
                "warning",
                f"{source} has {directory}, whose libcuda is for forward compatibility: on a newer "
                "driver, or on a GeForce, CUDA fails with error 803 or 804",
                subject=directory,
                fix=_removal(source, directory, "the hook adds it where it is needed"),
            )
        elif real.endswith("/stubs"):
            yield Finding(
                "CDG-M034",
                "error",
                f"{source} has {directory}, whose {libcuda} is a stub for linking: CUDA fails with "
                "error 34 (CUDA driver is a stub library)",
                subject=directory,
                fix=_removal(source, directory, "stubs are for the linker's option -L"),
            )


def driver_libraries(image: Image, files: Files) -> Iterator[Finding]:
    """Yield the libraries of a driver that the image brings along."""
    found: dict[str, str] = {}
    for directory in _system_directories(image):
        for name in files.names(directory):
            stem, so, version = name.partition(".so.")
            is_driver = stem in {"libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"}
            if so and is_driver and version.count(".") >= 1 and files.size(f"{directory}/{name}"):
                found.setdefault(version, f"{directory}/{name}")
    for version, path in found.items():
        yield Finding(
            "CDG-M035",
            "error",
            f"the image contains libraries of driver {version} ({path}): on a host with another "
            'driver programs fail with "Driver/library version mismatch" or error 803',
            subject=path,
            fix="remove the driver's packages from the image (apt-get purge 'libnvidia-*' "
            "'nvidia-driver*'); if it was committed from a container, build it from a Dockerfile",
        )


def capabilities(image: Image, files: Files) -> Iterator[Finding]:
    """Yield capabilities that programs of the image use and that it does not ask for."""
    value = image.environment.get(CAPABILITIES)
    if value is None:
        return
    wanted = set(value.split(","))
    directories = list(_directories(image, files))
    for capability, libraries in USERS.items():
        if wanted & {capability, "all"}:
            continue
        library = next((name for name in libraries if _begins(files, directories, name)), None)
        if library is not None:
            complete = f"{value},{capability}" if value else capability
            yield Finding(
                "CDG-M036",
                "warning",
                f"the image has {library} and {CAPABILITIES}={value}: with --gpus and "
                f"--runtime=nvidia its containers have no {capability} libraries",
                subject=CAPABILITIES,
                fix=f"-e {CAPABILITIES}={complete}    (CDI devices give every capability)",
            )


def _search_path(image: Image, files: Files) -> Iterator[tuple[str, str]]:
    """Yield the directories of LD_LIBRARY_PATH and ld.so.conf, and what names them."""
    return islice(_named_directories(image, files), MAX_DIRECTORIES)


def _named_directories(image: Image, files: Files) -> Iterator[tuple[str, str]]:
    for directory in image.environment.get(LIBRARY_PATH, "").split(":"):
        if directory.startswith("/"):
            yield LIBRARY_PATH, directory
    names = ["/etc/ld.so.conf"]
    names += [
        f"/etc/ld.so.conf.d/{name}"
        for name in files.names("/etc/ld.so.conf.d")
        if name.endswith(".conf")
    ]
    for name in names[:MAX_DIRECTORIES]:
        text = (files.read(name, MAX_FILE) or b"").decode("utf-8", "replace")
        for line in text.splitlines():
            directory = line.partition("#")[0].strip()
            if directory.startswith("/"):
                yield name, directory


def _removal(source: str, directory: str, reason: str) -> str:
    if source == LIBRARY_PATH:
        return f"ENV {LIBRARY_PATH}=    (in the Dockerfile, without {directory}: {reason})"
    return f"RUN rm {source} && ldconfig    (in the Dockerfile: {reason})"


def _system_directories(image: Image) -> tuple[str, ...]:
    triplet = TRIPLETS.get(image.architecture or "amd64", "x86_64-linux-gnu")
    return (f"/usr/lib/{triplet}", "/usr/lib64", "/usr/lib", "/usr/local/lib")


def _directories(image: Image, files: Files) -> Iterator[str]:
    yield from _system_directories(image)
    for _, directory in _search_path(image, files):
        yield directory


def _has(files: Files, directories: list[str], name: str) -> bool:
    return any(files.exists(f"{directory}/{name}") for directory in directories)


def _begins(files: Files, directories: list[str], beginning: str) -> bool:
    subdirectories = [*directories, *(f"{directory}/gstreamer-1.0" for directory in directories)]
    return any(
        name.startswith(beginning)
        for directory in subdirectories
        for name in files.names(directory)
    )


Examination = Callable[[Image, Files], Iterator[Finding]]
