# SPDX-License-Identifier: Apache-2.0
"""UUIDs, PCI addresses and names of nodes: one grammar for the request, the library and the hook."""

from __future__ import annotations

import pytest

from cdi_base import nvidia

ID = "8d4c9b2e-1f3a-4c5d-9e6f-0123456789ab"


@pytest.mark.parametrize(
    ("text", "uuid"),
    [
        (f"GPU-{ID}", f"GPU-{ID}"),
        (f"MIG-{ID}", f"MIG-{ID}"),
        (f"MIG-GPU-{ID}/1/0", f"MIG-GPU-{ID}/1/0"),
        (f"gpu-{ID.upper()}", f"GPU-{ID}"),
        (f"Mig-{ID}", f"MIG-{ID}"),
        (f"mig-gpu-{ID}/123456/0", f"MIG-GPU-{ID}/123456/0"),
        *((text, None) for text in ("", "GPU", "GPU-", ID, f"GPU_{ID}", f"GPU-{ID}0", f"GPU-{ID[1:]}")),
        *((text, None) for text in (f"GPU-{ID}/1/0", f"MIG-GPU-{ID}", f"MIG-GPU-{ID}/1", f"MIG-GPU-{ID}/1/0/0")),
        *((text, None) for text in (f"MIG-GPU-{ID}/x/0", f"MIG-GPU-{ID}/1/", f"MIG-GPU-{ID}/1234567/0")),
        *((text, None) for text in (f"GPU-{ID.replace('-', '')}", f"GPU-{ID[:-1]}g", f"GPU-{ID[:-1]}\u0661")),
    ],
)  # fmt: skip
def test_a_uuid_is_read_in_any_case(text: str, uuid: str | None) -> None:
    assert nvidia.uuid(text) == uuid


@pytest.mark.parametrize(
    ("uuid", "name"),
    [
        (f"MIG-GPU-{ID}/1/0", f"MIG-GPU-{ID}:1:0"),
        (f"mig-gpu-{ID}/1/0", f"mig-gpu-{ID}:1:0"),
        (f"MIG-{ID}", f"MIG-{ID}"),
        ("a/b", "a/b"),
        ("MIG-GPU-" + "-" * 36 + "/1/0", "MIG-GPU-" + "-" * 36 + "/1/0"),
    ],
)
def test_a_name_in_cdi_has_no_slash(uuid: str, name: str) -> None:
    """A UUID is one by its groups of digits; once any 36 of them and hyphens were enough."""
    assert nvidia.cdi_name(uuid) == name


@pytest.mark.parametrize(
    ("address", "numbers", "name"),
    [
        ("0000:3b:00.0", (0, 0x3B, 0, 0), "pci-0000-3b-00-0"),
        ("3B:00.0", (0, 0x3B, 0, 0), "pci-0000-3b-00-0"),
        ("00000000:3B:00.0", (0, 0x3B, 0, 0), "pci-0000-3b-00-0"),
        ("00010000:e1:1f.7", (0x10000, 0xE1, 0x1F, 7), "pci-10000-e1-1f-7"),
        *((text, None, None) for text in ("", "3b", "3b:00", "0000:3b:00", "0000:3b:00.", "0000:3b:00.8")),
        *((text, None, None) for text in ("000:3b:00.0", "000000000:3b:00.0", "0000:3b:0.0", "0000:3g:00.0")),
        *((text, None, None) for text in ("0000:0000:3b:00.0", "0000:3b:00.0.0", "0000:3b:00.00", " 3b:00.0")),
    ],
)  # fmt: skip
def test_a_pci_address_and_its_name(
    address: str, numbers: tuple[int, ...] | None, name: str | None
) -> None:
    """A function is 0 to 7; once the request took any hexadecimal digit."""
    assert nvidia.pci_address(address) == numbers
    assert nvidia.pci_name(address) == name
    assert name is None or nvidia.is_pci_name(name)


@pytest.mark.parametrize(
    "text",
    [*("pci-", "pci-0000-3b-00", "pci-0000-3b-00-0-0", "pci-0000-3b-00-8", "0000-3b-00-0", "PCI-0000-3b-00-0")],
)  # fmt: skip
def test_what_is_no_name_of_a_pci_address(text: str) -> None:
    assert not nvidia.is_pci_name(text)


@pytest.mark.parametrize(
    ("name", "minor"),
    [
        *(("nvidia0", 0), ("nvidia15", 15), ("nvidia000", 0), ("nvidia", None), ("nvidiactl", None)),
        *(("nvidia-uvm", None), ("nvidia-nvswitch0", None), ("nvidia1x", None), ("nvidia1234567", None)),
        *(("nvidia\u0661", None), ("/dev/nvidia0", None), ("renderD128", None)),
    ],
)  # fmt: skip
def test_the_minor_of_a_gpus_node(name: str, minor: int | None) -> None:
    assert nvidia.gpu_minor(name) == minor


def test_the_numbers_of_the_brands() -> None:
    """nvmlBrandType_t of nvml.h."""
    numbered = {name: number for number, name in enumerate(nvidia.BRANDS)}
    assert numbered["tesla"] == 2
    assert numbered["geforce"] == 5
    assert numbered["titan"] == 6
    assert numbered["quadrortx"] == 12
    assert numbered["nvidiartx"] == 13
    assert numbered["nvidia"] == 14
    assert len(numbered) == 17
