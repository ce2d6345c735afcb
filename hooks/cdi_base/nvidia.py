# SPDX-License-Identifier: Apache-2.0
"""Facts of NVIDIA that do not change from host to host: names of programs, brands, device names.

A GPU has a UUID `GPU-…`, a MIG device one `MIG-…`; before driver 470 a MIG device is called by its
GPU's, its GPU instance's and its compute instance's numbers, `MIG-GPU-…/1/0`. A PCI address is
`0000:3b:00.0` in the kernel, `00000000:3B:00.0` in NVML. The node of a GPU is `/dev/nvidiaMINOR`.
"""

from __future__ import annotations

HOOK = "nvidia-cdi-hook"
CTK = "nvidia-ctk"
RUNTIME = "nvidia-container-runtime"
PRESTART_HOOK = "nvidia-container-runtime-hook"
OLD_PRESTART_HOOK = "nvidia-container-toolkit"
"""Its name before version 1.13, and that of a link since."""
CONFIGURATION = "nvidia-container-runtime/config.toml"
"""Below /etc, or below what XDG_CONFIG_HOME says."""

BRANDS = (
    "unknown", "quadro", "tesla", "nvs", "grid", "geforce", "titan", "vapps", "vpc", "vcs", "vws",
    "cloudgaming", "quadrortx", "nvidiartx", "nvidia", "geforcertx", "titanrtx",
)  # fmt: skip
"""In the words of NVIDIA_REQUIRE_CUDA; the place is the number in NVML's nvmlBrandType_t, by which
the note of a compat libcuda lists them as `device`."""

_DIGITS = "0123456789"
_HEX = "0123456789abcdef"
_UUID = (8, 4, 4, 4, 12)
_MAX_DIGITS = 6
"""Of an index, a minor, or the number of an instance; the kernel has 20 bits for minors."""


def uuid(text: str) -> str | None:
    """A UUID of a GPU or a MIG device as drivers write it, whatever the case; None if it is none.

    Drivers write the prefix in capitals and the rest in small letters.
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
    """The UUID as the name of a CDI device, which has no slash: `MIG-GPU-…:1:0` before 470."""
    return device_uuid.replace("/", ":") if uuid(device_uuid) else device_uuid


def pci_address(text: str) -> tuple[int, int, int, int] | None:
    """Domain, bus, device and function of a PCI address, which may lack the domain."""
    rest, _, function = text.lower().partition(".")
    parts = rest.split(":")
    return _pci_numbers(parts if len(parts) == 3 else ["0000", *parts], function)


def pci_name(address: str) -> str | None:
    """`pci-0000-3b-00-0` for `3b:00.0`, `0000:3b:00.0`, `00000000:3B:00.0`; None for any other."""
    numbers = pci_address(address)
    return None if numbers is None else "pci-{:04x}-{:02x}-{:02x}-{:x}".format(*numbers)


def is_pci_name(text: str) -> bool:
    """Whether it is a name as `pci_name` makes it, whatever the case of its digits."""
    prefix, _, rest = text.partition("-")
    *parts, function = rest.lower().split("-")
    return prefix == "pci" and _pci_numbers(parts, function) is not None


def gpu_minor(name: str) -> int | None:
    """The minor of a GPU's node by its name in /dev, `nvidia7`; None if it is no GPU's."""
    return number(name[6:]) if name.startswith("nvidia") else None


def number(text: str) -> int | None:
    """An index, a minor, or the number of an instance; None if it is none."""
    return int(text) if 0 < len(text) <= _MAX_DIGITS and not text.strip(_DIGITS) else None


def _pci_numbers(parts: list[str], function: str) -> tuple[int, int, int, int] | None:
    """Of three texts of hexadecimal digits, and a function, of which a device has eight."""
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
