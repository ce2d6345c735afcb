# SPDX-License-Identifier: Apache-2.0
"""GPUs: their kinds, how they may be split or broken, and the ones that the fake hosts have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A kind of GPU."""

    name: str
    device_id: int
    subsystem_id: int
    pci_class: int = 0x030200
    brand: int = 14
    """nvmlBrandType_t; 14 is NVML_BRAND_NVIDIA."""
    compute_capability: tuple[int, int]
    memory_mib: int
    video_bios: str
    mig_capable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mig:
    """A compute instance in a GPU instance."""

    gi: int
    ci: int
    profile: str
    uuid: str
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU; the order of GPUs in a host is NVML's index."""

    minor: int
    uuid: str
    pci_address: str
    model: Model
    numa_node: int = -1
    drm_card: int | None = None
    drm_render: int | None = None
    mig: tuple[Mig, ...] = ()
    mig_enabled: bool = False
    """MIG mode is on; it may be on with no instance made yet."""
    excluded: bool = False
    device_node: bool = True
    off_the_bus: bool = False
    """It answers no more: its configuration space reads all ones."""
    information: Literal["whole", "unknown", "unreadable", "absent"] = "whole"
    """State of /proc/driver/nvidia/gpus/BDF/information. ``unknown``: question marks in place of
    what the driver could not read. ``unreadable``: reading it is an error (it is a directory)."""
    nvml_handle_code: int = 0
    nvml_query_code: int = 0


H100 = Model(
    name="NVIDIA H100 80GB HBM3",
    device_id=0x2330,
    subsystem_id=0x16C1,
    compute_capability=(9, 0),
    memory_mib=81559,
    video_bios="96.00.a5.00.01",
    mig_capable=True,
)
H200 = Model(
    name="NVIDIA H200",
    device_id=0x2335,
    subsystem_id=0x18BF,
    compute_capability=(9, 0),
    memory_mib=143771,
    video_bios="96.00.a5.00.1a",
    mig_capable=True,
)
A100 = Model(
    name="NVIDIA A100-SXM4-40GB",
    device_id=0x20B0,
    subsystem_id=0x134F,
    compute_capability=(8, 0),
    memory_mib=40960,
    video_bios="92.00.45.00.03",
    mig_capable=True,
)
RTX_4090 = Model(
    name="NVIDIA GeForce RTX 4090",
    device_id=0x2684,
    subsystem_id=0x16F3,
    pci_class=0x030000,
    brand=5,
    compute_capability=(8, 9),
    memory_mib=24564,
    video_bios="95.02.3c.40.02",
)
T4 = Model(
    name="Tesla T4",
    device_id=0x1EB8,
    subsystem_id=0x12A2,
    brand=2,
    compute_capability=(7, 5),
    memory_mib=15360,
    video_bios="90.04.84.00.06",
)


def gpu(index: int, model: Model = H100, *, minor: int | None = None, **changes: object) -> Gpu:
    """The GPU that the machines of this table have at NVML index ``index``."""
    number = index if minor is None else minor
    whole = Gpu(
        minor=number,
        uuid=f"GPU-ab1000{index:02x}-c0de-40{index:02x}-80{index:02x}-0000000010{index:02x}",
        pci_address=f"0000:{0x1B + 3 * index:02x}:00.0",
        model=model,
        numa_node=0 if index < 4 else 1,
        drm_card=1 + index,
        drm_render=128 + index,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def several(count: int, model: Model = H100) -> tuple[Gpu, ...]:
    """The first ``count`` GPUs of a machine."""
    return tuple(gpu(index, model) for index in range(count))


def headless(whole: Gpu) -> Gpu:
    """Give the GPU as it is without the nvidia-drm module: with no DRM node."""
    return replace(whole, drm_card=None, drm_render=None)


def split(index: int, model: Model = A100) -> Gpu:
    """A GPU split into seven MIG devices, in GPU instances 7 to 13 as nvidia-smi numbers 1g."""
    devices = tuple(
        Mig(
            gi=7 + number,
            ci=0,
            profile="1g.5gb",
            uuid=f"MIG-ab1000{index:02x}-c0de-50{7 + number:02x}-8000-00000000"
            f"{0x2000 + 0x40 * index + number:04x}",
            memory_mib=4864,
        )
        for number in range(7)
    )
    return gpu(index, model, mig=devices, mig_enabled=True)


# Three compute instances in one GPU instance, and a GPU instance of its own.
SHARED_INSTANCE = (
    *(
        Mig(
            gi=2,
            ci=ci,
            profile="1c.3g.20gb",
            uuid=f"MIG-ab100001-c0de-6002-8000-00000000300{ci}",
            memory_mib=19968,
        )
        for ci in range(3)
    ),
    Mig(
        gi=9,
        ci=0,
        profile="1g.5gb",
        uuid="MIG-ab100001-c0de-6009-8000-000000003010",
        memory_mib=4864,
    ),
)
