# SPDX-License-Identifier: Apache-2.0
"""Whether the driver's kernel module is loaded; if not, why not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import distribution, kernel_modules, secure_boot
from cdi_gen.doctor.check import Check, NotApplicable, Unseen
from cdi_gen.doctor.host import Host

MODULE = "nvidia"
OWN_DRIVERS = frozenset({"", "nvidia"})
"""Drivers that a GPU has before the module is loaded, and after."""

OPEN_SOURCE = frozenset({"nouveau", "nova", "nova_core", "NovaCore", "nvidiafb"})
"""Drivers of the kernel for NVIDIA's GPUs, without CUDA."""

LOAD = "sudo modprobe nvidia"


def examine(host: Host) -> Iterator[Finding]:
    """Yield the first reason that explains why the module is not loaded."""
    gpus = host.pci_gpus
    if host.driver_module is not None:
        return
    if not gpus:
        raise NotApplicable("no NVIDIA GPU on the PCI bus")
    number = f"{len(gpus)} NVIDIA GPU{'s' * (len(gpus) != 1)}"
    drivers = {gpu.driver for gpu in gpus}
    if OWN_DRIVERS & drivers:
        yield next(_reasons(host, number))
        return
    files = kernel_modules.module_files(host)
    is_installed = files or kernel_modules.dkms_modules(host)
    if OPEN_SOURCE & drivers and is_installed and host.kernel_release not in files:
        # Without nouveau the GPUs would have no driver at all.
        yield _not_built(host, number, files)
        return
    raise NotApplicable("other drivers have all GPUs: see the check gpu-drivers")


def _reasons(host: Host, gpus: str) -> Iterator[Finding]:
    rejection = _rejection(host)
    if rejection is not None:
        yield _rejected(host, rejection)
    files = kernel_modules.module_files(host)
    if host.kernel_release and host.kernel_release not in files:
        yield _not_built(host, gpus, files)
    for block in kernel_modules.blocks(host, MODULE):
        yield _blocked(host, gpus, block)
    refusal = _refusal(host)
    if refusal is not None:
        yield Finding(
            "CDG-A007",
            "error",
            f"the kernel module nvidia could not start: {refusal}",
            subject=MODULE,
            fix="sudo dmesg | grep -E 'NVRM|nvidia'  # the lines around this one say what to do",
        )
    on = secure_boot.is_on(host)
    hint = "; Secure Boot is on, perhaps the kernel rejects the module" if on else ""
    yield Finding(
        "CDG-A001",
        "error",
        f"{gpus} on the PCI bus, but the kernel module nvidia is not loaded{hint}",
        subject=MODULE,
        fix=LOAD,
    )


def _rejection(host: Host) -> str | None:
    try:
        return secure_boot.rejection(host)
    except Unseen:
        return None


def _rejected(host: Host, rejection: str) -> Finding:
    key = secure_boot.key(host)
    fix = (
        f"sudo mokutil --import {key} && sudo reboot  # the screen MOK management enrols the key"
        if key
        else "sign the module with a key of the firmware (mokutil --import KEY.der), install your "
        "distribution's signed driver, or switch Secure Boot off in the firmware"
    )
    message = f"Secure Boot rejects the kernel module nvidia: the kernel's log has: {rejection}"
    return Finding("CDG-A003", "error", message, subject=MODULE, fix=fix)


def _not_built(host: Host, gpus: str, files: dict[str, str]) -> Finding:
    """Return that the running kernel has no module: not built, or no driver at all."""
    release, commands = host.kernel_release, distribution.commands(host)
    dkms = kernel_modules.dkms_modules(host)
    if not files and not dkms:
        return Finding(
            "CDG-A005",
            "error",
            f"{gpus} on the PCI bus, and no kernel has the module of NVIDIA's driver",
            subject=MODULE,
            fix=f"{commands.driver} && sudo reboot  # from {commands.repository}",
        )
    if files and not host.exists(f"/lib/modules/{release}"):
        return Finding(
            "CDG-A004",
            "error",
            f"the modules of the running kernel {release} are gone: an update of the kernel "
            "removed them",
            subject=MODULE,
            fix="sudo reboot",
        )
    others = f" (there is one for {', '.join(sorted(files)[:3])})" if files else ""
    failed = next((module for module in dkms if module.has_failed), None)
    log = f"; the build of {failed.version} failed, see {failed.log}" if failed else ""
    headers = host.exists(f"/lib/modules/{release}/build")
    missing = "" if headers else "; the kernel's headers are missing"
    steps = (
        [] if headers or not dkms else [commands.install.format(commands.headers.format(release))]
    )
    steps += [f"sudo dkms autoinstall -k {release}"] if dkms else []
    steps += [LOAD] if steps else []
    return Finding(
        "CDG-A004",
        "error",
        f"no kernel module nvidia for the running kernel {release}{others}{missing}{log}",
        subject=MODULE,
        fix=" && ".join(steps)
        or f"boot a kernel that has the module ({', '.join(sorted(files)[:3])}), or build it: "
        f"{commands.driver}",
    )


def _blocked(host: Host, gpus: str, block: kernel_modules.Block) -> Finding:
    initramfs = distribution.commands(host).initramfs
    fix = (
        f"remove {block.text} from the kernel's command line (GRUB_CMDLINE_LINUX in "
        "/etc/default/grub, then update-grub), and reboot"
        if block.source == "/proc/cmdline"
        # A file with one such line often has others.
        else rf"sudo sed -i -E '/^\s*(blacklist|install)\s+nvidia/d' {shlex.quote(block.source)}"
        f" && {initramfs} && {LOAD}"
    )
    return Finding(
        "CDG-A006",
        "error",
        f"{gpus} on the PCI bus, but {block.source} keeps the kernel module nvidia from being "
        f"loaded: {block.text}",
        subject=block.source,
        fix=fix,
    )


REFUSALS = (
    "disagrees about version of symbol",
    "Unknown symbol",
    "None of the NVIDIA",
    "No NVIDIA GPU found",
    "is already bound to",
    "BAR1 is 0M",
    "BAR0 is 0M",
    "not supported by the",
    "requires use of the NVIDIA open kernel modules",
)
"""Parts of the messages with which the kernel or the module ends the loading."""


def _refusal(host: Host) -> str | None:
    try:
        lines = [line.text for line in host.kernel_log]
    except Unseen:
        return None
    return next((line for line in reversed(lines) if any(part in line for part in REFUSALS)), None)


CHECK = Check("driver-loaded", "driver", "the kernel module nvidia is loaded", examine)
