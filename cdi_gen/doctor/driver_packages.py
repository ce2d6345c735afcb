# SPDX-License-Identifier: Apache-2.0
"""Which package of a distribution has a file of the driver, for commands that can be pasted.

Sources: Debian's nvidia-graphics-drivers 550 (debian/*.install), Ubuntu's nvidia-graphics-drivers,
RPM Fusion's xorg-x11-drv-nvidia, NVIDIA's repository for RHEL, openSUSE's G06, Arch's nvidia-utils.
"""

from __future__ import annotations

from cdi_gen.doctor import distribution
from cdi_gen.doctor.host import Host
from cdi_gen.inventory import Inventory

DEBIAN = {
    "libEGL_nvidia": "libegl-nvidia0",
    "libGLX_nvidia": "libglx-nvidia0",
    "libnvidia-eglcore": "libnvidia-eglcore",
    "libnvidia-glsi": "libnvidia-eglcore",
    "libnvidia-glcore": "libnvidia-glcore",
    "libnvidia-tls": "libnvidia-glcore",
    "libnvidia-encode": "libnvidia-encode1",
    "libnvcuvid": "libnvcuvid1",
    "libnvoptix": "libnvoptix1",
    "nvoptix.bin": "libnvoptix1",
    "libnvidia-opencl": "nvidia-opencl-icd",
    "nvidia.icd": "nvidia-opencl-common",
    "nvidia_icd.json": "nvidia-vulkan-common",
    "nvidia_layers.json": "nvidia-vulkan-common",
    "10_nvidia.json": "nvidia-egl-common",
    "10_nvidia_wayland.json": "libnvidia-egl-wayland1",
    "15_nvidia_gbm.json": "libnvidia-egl-gbm1",
    "nvidia-drm_gbm": "libnvidia-allocator1",
    "libnvidia-allocator": "libnvidia-allocator1",
    "nvidia-smi": "nvidia-smi",
    "nvidia_drv": "xserver-xorg-video-nvidia",
    "libglxserver_nvidia": "xserver-xorg-video-nvidia",
    "nvidia-drm-outputclass.conf": "xserver-xorg-video-nvidia",
}
"""Packages by the stem of a library or the name of another file."""

VIDEO = ("libnvidia-encode", "libnvcuvid")
COMPUTE = ("libnvidia-opencl", "nvidia.icd", "libcuda", "libnvidia-ptxjitcompiler")

_RPM_FUSION = "xorg-x11-drv-nvidia"
GROUPS = {
    "ubuntu": (
        "libnvidia-compute-{0}",
        "libnvidia-encode-{0} libnvidia-decode-{0}",
        "libnvidia-gl-{0}",
    ),
    "fedora": (f"{_RPM_FUSION}-cuda", f"{_RPM_FUSION}-cuda-libs", f"{_RPM_FUSION}-libs"),
    "rhel": ("nvidia-driver-cuda-libs", "nvidia-driver-cuda-libs", "nvidia-driver-libs"),
    "suse": ("nvidia-compute-G06", "nvidia-video-G06", "nvidia-gl-G06"),
    "arch": ("opencl-nvidia", "nvidia-utils", "nvidia-utils"),
}
"""Packages for compute, video and graphics by the distribution; ``{0}`` is the driver's branch."""


GENERAL = "install the driver again, with all of its parts; then: sudo cdi-gen refresh"


def installation(host: Host, inventory: Inventory, *names: str) -> str:
    """Return the command that installs the packages with these files.

    Args:
        host: whose distribution counts.
        inventory: with the driver's version.
        names: stems of libraries (``libnvcuvid``), SONAMEs, or paths of other files.
    """
    family = distribution.family(host)
    branch = inventory.require_driver().library_version.partition(".")[0]
    packages: dict[str, None] = {}
    for name in map(_key, names):
        package = DEBIAN.get(name) if family == "debian" else _group(family, name)
        if package:
            packages |= dict.fromkeys(package.format(branch).split())
    if not packages:
        return GENERAL
    command = distribution.FAMILIES[family].install.format(" ".join(packages))
    if family in {"debian", "ubuntu"}:
        # Without the option nothing happens if only a file of the package was removed.
        command = command.replace(" install ", " install --reinstall ")
    return f"{command} && sudo cdi-gen refresh"


def _key(name: str) -> str:
    base = name.rpartition("/")[2]
    stem = base.partition(".so")[0]
    return stem if ".so" in base else base


def _group(family: str, name: str) -> str:
    compute, video, graphics = GROUPS[family]
    return video if name in VIDEO else compute if name in COMPUTE else graphics
