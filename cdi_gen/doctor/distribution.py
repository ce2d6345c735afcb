# SPDX-License-Identifier: Apache-2.0
"""The host's distribution, for commands that can be pasted."""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen.doctor.check import Unseen
from cdi_gen.doctor.host import Host
from cdi_gen.paths import join


class Commands(NamedTuple):
    """The commands of a family of distributions; ``{0}`` stands for what they act on."""

    install: str
    initramfs: str
    """Builds the initial RAM disk again, which has its own copy of modprobe's configuration."""
    headers: str
    """The package of the headers of a kernel release."""
    driver: str
    """Installs NVIDIA's driver."""
    repository: str
    """Where the driver's packages are."""
    libraries: str
    """Installs the libraries for CUDA of a branch again."""


PROGRAMS = ("/usr/bin", "/bin")
"""Where package managers are."""

FAMILIES = {
    "ubuntu": Commands(
        install="sudo apt-get install {0}",
        initramfs="sudo update-initramfs -u",
        headers="linux-headers-{0}",
        driver="sudo ubuntu-drivers install --gpgpu",
        repository="the component restricted",
        libraries="sudo apt-get install --reinstall libnvidia-compute-{0}",
    ),
    "debian": Commands(
        install="sudo apt-get install {0}",
        initramfs="sudo update-initramfs -u",
        headers="linux-headers-{0}",
        driver="sudo apt-get install nvidia-driver nvidia-kernel-dkms",
        repository="the component non-free",
        libraries="sudo apt-get install --reinstall libcuda1 libnvidia-ml1 "
        "libnvidia-ptxjitcompiler1",
    ),
    "fedora": Commands(
        install="sudo dnf install {0}",
        initramfs="sudo dracut --force",
        headers="kernel-devel-{0}",
        driver="sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda",
        repository="RPM Fusion",
        libraries="sudo dnf reinstall xorg-x11-drv-nvidia-cuda-libs",
    ),
    "rhel": Commands(
        install="sudo dnf install {0}",
        initramfs="sudo dracut --force",
        headers="kernel-devel-{0}",
        driver="sudo dnf module install nvidia-driver:open-dkms",
        repository="NVIDIA's repository",
        libraries="sudo dnf reinstall nvidia-driver-cuda-libs",
    ),
    "suse": Commands(
        install="sudo zypper install {0}",
        initramfs="sudo dracut --force",
        headers="kernel-default-devel",
        driver="sudo zypper install nvidia-open-driver-G06-signed-kmp-default",
        repository="openSUSE's or NVIDIA's repository",
        libraries="sudo zypper install --force nvidia-compute-G06",
    ),
    "arch": Commands(
        install="sudo pacman -S {0}",
        initramfs="sudo mkinitcpio -P",
        headers="linux-headers",
        driver="sudo pacman -S nvidia-open-dkms",
        repository="the repository extra",
        libraries="sudo pacman -S nvidia-utils",
    ),
}
"""By ``ID`` or a word of ``ID_LIKE`` in os-release; the first word that is a key counts."""


def os_release(host: Host) -> dict[str, str]:
    """Return the values of os-release; nothing if it is not visible, as in an inventory."""
    try:
        text = host.text("/etc/os-release", 1 << 14) or host.text("/usr/lib/os-release", 1 << 14)
    except Unseen:
        return {}
    if text is None:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, value in pairs}


def family(host: Host) -> str:
    """Return the key in `FAMILIES` of the host's distribution; Debian's if it is not known.

    What os-release says counts unless the host has only another family's package manager, as where
    a container shows its own os-release.
    """
    values = os_release(host)
    words = (values.get("ID", ""), *values.get("ID_LIKE", "").split())
    named = next((word for word in words if word in FAMILIES), "")
    installed = [family for family in FAMILIES if _has_manager(host, family)]
    if not installed or named in installed:
        return named or "debian"
    return "debian" if "debian" in installed else installed[0]


def _has_manager(host: Host, family: str) -> bool:
    """Whether a host has the package manager of a family."""
    manager = FAMILIES[family].install.split()[1]
    try:
        return any(host.exists(join(path, manager)) for path in PROGRAMS)
    except Unseen:
        return False


def commands(host: Host) -> Commands:
    """Return the commands of the host's distribution; Debian's if it is not known."""
    return FAMILIES[family(host)]
