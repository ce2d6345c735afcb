# SPDX-License-Identifier: Apache-2.0
"""WSL 2 and Tegra, whose drivers are others, and distributions with directories of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cdi_base.findings import Finding
from cdi_gen.doctor import distribution
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.host.platforms import tegra, wsl
from cdi_gen.inventory import PLATFORMS, TEGRA, WSL
from cdi_gen.paths import parent

WSL_LIBRARIES = "/usr/lib/wsl/lib"
WSL_STORES = "/usr/lib/wsl/drivers/*/libcuda.so.1.1"
LINUX_LIBCUDA = (
    "/usr/lib/*-linux-gnu/libcuda.so.*",
    "/usr/lib64/libcuda.so.*",
    "/usr/lib/*-linux-gnu/nvidia/*/libcuda.so.*",
)
"""Where packages of the driver for Linux have libcuda. A link to WSL's is no such file."""
CSV_FILES = "/etc/nvidia-container-runtime/host-files-for-container.d"

LAYOUTS = {
    "talos": "Talos Linux: install the extensions nvidia-*; cdi-gen runs in a container, with "
    "--host-root, and finds the driver in /usr/local/glibc",
    "cos": "Container-Optimized OS: / is read-only, the driver is in /home/kubernetes/bin/nvidia "
    "or /var/lib/nvidia: cdi-gen runs in a container, with --host-root, and writes to /var/run/cdi",
    "nixos": "NixOS: the driver is in /run/opengl-driver; hardware.nvidia-container-toolkit.enable "
    "writes a spec of its own, in /var/run/cdi: keep one of the two programs",
    "ubuntu-core": "Ubuntu Core: the driver is in a snap (nvidia-core*); the snap docker has "
    "NVIDIA's toolkit in it, which needs its interface gpu-2404 or graphics-core22",
    "flatcar": "Flatcar: the driver is in /opt/nvidia, /usr is read-only: install cdi-gen to /opt",
    "bottlerocket": "Bottlerocket: the driver is part of the image, / is read-only: cdi-gen runs "
    "in a container, with --host-root",
}
"""By ``ID`` of os-release: how the host differs, and what to do."""
OSTREE = "an ostree deployment: /usr is read-only; install cdi-gen as a package or to /usr/local"


def examine(host: Host) -> Iterator[Finding]:
    """Yield what is special about the host."""
    name = host.fact("platform name", lambda: _platform(host))
    if name == WSL:
        yield from _wsl(host)
    elif name == TEGRA:
        yield from _tegra(host)
    release = distribution.os_release(host)
    text = LAYOUTS.get(release.get("ID", ""))
    if text is None and host.exists("/run/ostree-booted"):
        text = OSTREE
    if text is not None:
        yield Finding("CDG-A141", "info", text, subject=release.get("ID", "host"))
    if host.is_container:
        yield Finding(
            "CDG-A143",
            "info",
            "doctor runs in a container: it sees the container's devices and files, not the host's",
            subject="container",
        )
    if name is None and text is None and host.driver_module is None and not host.pci_functions:
        raise NotApplicable("neither an NVIDIA GPU nor the driver")


def _platform(host: Host) -> Any:
    if host.driver_module is not None:
        return None
    if wsl.detect(host.root):
        return WSL
    return TEGRA if tegra.detect(host.root) else None


def _unsupported(platform: str, mode: str) -> Finding:
    return Finding(
        "CDG-H002",
        "warning",
        f"this is {PLATFORMS[platform]}, for which cdi-gen generates no specs",
        subject=platform,
        fix=f"sudo nvidia-ctk cdi generate --mode {mode} --output /etc/cdi/nvidia.yaml",
    )


def _wsl(host: Host) -> Iterator[Finding]:
    yield _unsupported(WSL, "wsl")
    foreign = [
        path
        for pattern in LINUX_LIBCUDA
        for path in host.glob(pattern)
        if path.count(".") >= 3 and not path.endswith("libcuda.so.1.1") and host.link(path) is None
    ]
    if foreign:
        yield Finding(
            "CDG-A142",
            "error",
            f"{foreign[0]} is of the driver for Linux: in WSL 2 it hides the library of Windows' "
            f"driver in {WSL_LIBRARIES}, and CUDA finds no device",
            subject=foreign[0],
            fix="sudo apt-get purge '^nvidia-.*' '^libnvidia-.*' && sudo ldconfig  # in WSL 2 only "
            "Windows has a driver",
        )
    stores = [parent(path) for path in host.glob(WSL_STORES)]
    if not stores and not host.exists(f"{WSL_LIBRARIES}/libcuda.so.1"):
        yield Finding(
            "CDG-A144",
            "error",
            f"Windows has no NVIDIA driver for WSL 2: neither {WSL_LIBRARIES} nor a directory of "
            "/usr/lib/wsl/drivers has libcuda",
            subject=WSL_LIBRARIES,
            fix="install NVIDIA's driver in Windows, and run there: wsl --update && wsl --shutdown",
        )
    elif len(stores) > 1:
        yield Finding(
            "CDG-A145",
            "info",
            f"{len(stores)} driver stores have libcuda: {', '.join(stores)}; the newest is the one "
            "that Windows uses",
            subject=stores[0],
        )


def _tegra(host: Host) -> Iterator[Finding]:
    yield _unsupported(TEGRA, "csv")
    if not [name for name in host.entries(CSV_FILES) or () if name.endswith(".csv")]:
        yield Finding(
            "CDG-A146",
            "error",
            f"{CSV_FILES} has no CSV file: NVIDIA's programs do not know which files of JetPack "
            "containers need",
            subject=CSV_FILES,
            fix="sudo apt-get install nvidia-container nvidia-l4t-init",
        )


CHECK = Check("platform", "driver", "the host is one for which cdi-gen generates specs", examine)
