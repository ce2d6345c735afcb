# SPDX-License-Identifier: Apache-2.0
"""The host's distribution, for commands that can be pasted."""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen.doctor.host import Host


class Commands(NamedTuple):
    """The commands of a family of distributions; ``{0}`` stands for what they act on."""

    install: str
    initramfs: str
    """Builds the initial RAM disk again, which has its own copy of modprobe's configuration."""
    headers: str
    """The package of the headers of a kernel release."""
    driver: str
    """How to install NVIDIA's driver."""


FAMILIES = {
    "ubuntu": Commands(
        "sudo apt-get install {0}",
        "sudo update-initramfs -u",
        "linux-headers-{0}",
        "sudo ubuntu-drivers install --gpgpu",
    ),
    "debian": Commands(
        "sudo apt-get install {0}",
        "sudo update-initramfs -u",
        "linux-headers-{0}",
        "sudo apt-get install nvidia-driver nvidia-kernel-dkms  (from the component non-free)",
    ),
    "fedora": Commands(
        "sudo dnf install {0}",
        "sudo dracut --force",
        "kernel-devel-{0}",
        "sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda  (from RPM Fusion)",
    ),
    "rhel": Commands(
        "sudo dnf install {0}",
        "sudo dracut --force",
        "kernel-devel-{0}",
        "sudo dnf module install nvidia-driver:open-dkms  (from NVIDIA's repository)",
    ),
    "suse": Commands(
        "sudo zypper install {0}",
        "sudo dracut --force",
        "kernel-default-devel",
        "sudo zypper install nvidia-open-driver-G06-signed-kmp-default",
    ),
    "arch": Commands(
        "sudo pacman -S {0}",
        "sudo mkinitcpio -P",
        "linux-headers",
        "sudo pacman -S nvidia-open-dkms",
    ),
}
"""By ``ID`` or a word of ``ID_LIKE`` in os-release; the first word that is a key counts."""


def os_release(host: Host) -> dict[str, str]:
    """Return the values of os-release."""
    text = host.text("/etc/os-release", 1 << 14) or host.text("/usr/lib/os-release", 1 << 14) or ""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, value in pairs}


def commands(host: Host) -> Commands:
    """Return the commands of the host's distribution; Debian's if it is not known."""
    values = os_release(host)
    words = (values.get("ID", ""), *values.get("ID_LIKE", "").split())
    return next((FAMILIES[word] for word in words if word in FAMILIES), FAMILIES["debian"])
