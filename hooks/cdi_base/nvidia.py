# SPDX-License-Identifier: Apache-2.0
"""Facts about NVIDIA's software that are the same on all hosts: programs, brands, device names.

A GPU has a UUID `GPU-…`, a MIG device a UUID `MIG-…`. Before driver 470 the UUID of a MIG device
consists of the GPU's UUID and the numbers of both instances: `MIG-GPU-…/1/0`. A PCI address is
`0000:3b:00.0` in the kernel, `00000000:3B:00.0` in NVML. The node of a GPU is `/dev/nvidiaMINOR`.
"""

from __future__ import annotations

HOOK = "nvidia-cdi-hook"
CTK = "nvidia-ctk"
RUNTIME = "nvidia-container-runtime"
PRESTART_HOOK = "nvidia-container-runtime-hook"
OLD_PRESTART_HOOK = "nvidia-container-toolkit"
"""The name of NVIDIA's prestart hook before version 1.13, and of a link to it since."""
CONFIGURATION = "nvidia-container-runtime/config.toml"
"""The path of NVIDIA's config.toml below /etc or XDG_CONFIG_HOME."""

BRANDS = (
    "unknown", "quadro", "tesla", "nvs", "grid", "geforce", "titan", "vapps", "vpc", "vcs", "vws",
    "cloudgaming", "quadrortx", "nvidiartx", "nvidia", "geforcertx", "titanrtx",
)  # fmt: skip
"""Brands as NVIDIA_REQUIRE_CUDA spells them. The index is the number in NVML's nvmlBrandType_t,
which the ELF note of a compat libcuda lists under `device`."""

_DIGITS = "0123456789"
_HEX = "0123456789abcdef"
_UUID = (8, 4, 4, 4, 12)
_MAX_DIGITS = 6
"""The largest number of digits of an index, a minor or an instance; a minor has 20 bits."""


def uuid(text: str) -> str | None:
    """Return a UUID of a GPU or a MIG device as drivers write it; None if the text is not one.

    Drivers write the prefix in capitals and the rest in lower case; the text may differ in case.
    """
    prefix, _, rest = text.partition("-")
    prefix, rest = prefix.upper(), rest.lower()
    if prefix not in {"GPU", "MIG"}:
        return None
    if prefix == "MIG" and rest.startswith("gpu-"):
        groups, *instances = rest[4:].split("/")
        if len(instances) != 2 or None in map(number, instances) or not _is_uuid(groups):
            return None
        return f"MIG-GPU-{rest[4:]}"
    return f"{prefix}-{rest}" if _is_uuid(rest) else None


def cdi_name(device_uuid: str) -> str:
    """Return the name of a CDI device for a UUID; it has no slash: `MIG-GPU-…:1:0` before 470."""
    return device_uuid.replace("/", ":") if uuid(device_uuid) else device_uuid


def pci_address(text: str) -> tuple[int, int, int, int] | None:
    """Return domain, bus, device and function of a PCI address, which may lack the domain."""
    rest, _, function = text.lower().partition(".")
    parts = rest.split(":")
    return _pci_numbers(parts if len(parts) == 3 else ["0000", *parts], function)


def pci_name(address: str) -> str | None:
    """Return `pci-0000-3b-00-0` for `3b:00.0`, `0000:3b:00.0`, `00000000:3B:00.0`; else None."""
    numbers = pci_address(address)
    return None if numbers is None else "pci-{:04x}-{:02x}-{:02x}-{:x}".format(*numbers)


def is_pci_name(text: str) -> bool:
    """Whether a text is a result of `pci_name`, whatever the case of its digits."""
    prefix, _, rest = text.partition("-")
    *parts, function = rest.lower().split("-")
    return prefix == "pci" and _pci_numbers(parts, function) is not None


def gpu_minor(name: str) -> int | None:
    """Return the minor of a GPU's device node by its name, `nvidia7`; None for other names."""
    return number(name[6:]) if name.startswith("nvidia") else None


def number(text: str) -> int | None:
    """Return an index, a minor, or the number of an instance; None if the text is not one."""
    return int(text) if 0 < len(text) <= _MAX_DIGITS and not text.strip(_DIGITS) else None


def _pci_numbers(parts: list[str], function: str) -> tuple[int, int, int, int] | None:
    """Return the numbers of domain, bus, device and function; a device has eight functions."""
    if len(parts) != 3 or len(function) != 1 or function not in "01234567":
        return None
    domain, bus, device = parts
    if not (4 <= len(domain) <= 8 and _is_hex(domain, len(domain))):
        return None
    if not (_is_hex(bus, 2) and _is_hex(device, 2)):
        return None
    return int(domain, 16), int(bus, 16), int(device, 16), int(function)


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and not text.strip(_HEX)


def _is_uuid(text: str) -> bool:
    groups = text.split("-")
    return len(groups) == len(_UUID) and all(map(_is_hex, groups, _UUID))
