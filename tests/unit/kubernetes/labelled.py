# SPDX-License-Identifier: Apache-2.0
"""Hosts and settings for tests of labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cdi_gen.inventory import Inventory
from cdi_gen.inventory.properties import GpuProperties, MigProperties, Properties
from cdi_gen.kubernetes.labels import labels
from cdi_gen.kubernetes.labels.settings import LabelSettings
from cdi_gen.kubernetes.probe import Facts
from cdi_gen.kubernetes.settings import DEFAULTS, Settings, SharedResource, Sharing
from tests.unit.kubernetes.nodes import inventory

NOW = 1_692_843_500.7

H100 = {"memory_mib": 81559, "compute_capability": "9.0", "pci_class": 0x0302, "mig_capable": True}
A100 = {"memory_mib": 40960, "compute_capability": "8.0", "pci_class": 0x0302, "mig_capable": True}
H200 = {"memory_mib": 143771, "compute_capability": "9.0", "pci_class": 0x0302, "mig_capable": True}
T4 = {"memory_mib": 15360, "compute_capability": "7.5", "pci_class": 0x0302}
RTX_4090 = {"memory_mib": 24564, "compute_capability": "8.9", "pci_class": 0x0300}

MIXED = inventory("flat-550-mig-mixed")
"""GPU 0 without MIG; GPU 1 with three devices 1c.3g.20gb and one 1g.5gb; GPU 2 without devices."""


def facts(
    host: Inventory,
    of_gpu: dict[str, Any] | None = None,
    machine: str | None = "ACME Box",
    **of_host: Any,
) -> Facts:
    gpus = tuple(
        GpuProperties(index=gpu.index, product=gpu.model, **(of_gpu or {})) for gpu in host.gpus
    )
    values: dict[str, Any] = {"gpus": gpus, "cuda_version": "12.4", "machine": machine} | of_host
    return Facts(inventory=host, properties=Properties(**values))


def made(of: Facts | None, plugin: Settings = DEFAULTS, **options: Any) -> dict[str, str]:
    """The labels, without the prefix."""
    values = labels(of, LabelSettings(plugin=plugin, **options), NOW)
    assert all(name.startswith("nvidia.com/") for name in values)
    return {name.removeprefix("nvidia.com/"): value for name, value in values.items()}


def shared(
    *names: str, strategy: str = "time-slicing", replicas: int = 4, **options: Any
) -> Settings:
    resources = tuple(
        SharedResource(name=f"nvidia.com/{name}", replicas=replicas) for name in names
    )
    sharing = Sharing(strategy=strategy, resources=resources, **options)  # type: ignore[arg-type]
    return replace(DEFAULTS, sharing=sharing)


def mig_properties(host: Inventory) -> tuple[MigProperties, ...]:
    return tuple(
        MigProperties(
            uuid=mig.uuid or "",
            memory_mib=4864 if mig.profile == "1g.5gb" else 19968,
            multiprocessors=14 if mig.profile == "1g.5gb" else 42,
            gpu_instance_slices=1 if mig.profile == "1g.5gb" else 3,
            compute_instance_slices=1,
            copy_engines=2,
            decoders=3,
            encoders=4,
            jpeg_engines=5,
            ofa_engines=6,
        )
        for mig in host.mig_devices
    )


def mig_host(*profiles: list[str] | None) -> Inventory:
    """A host with a GPU for each list of profiles; None: MIG is not enabled on it."""
    example = MIXED.mig_devices[0]
    gpus = tuple(
        replace(MIXED.gpus[0], index=index, mig_enabled=of_gpu is not None)
        for index, of_gpu in enumerate(profiles)
    )
    devices = tuple(
        replace(
            example, gpu_index=index, index=number, profile=profile, uuid=f"MIG-{index}-{number}"
        )
        for index, of_gpu in enumerate(profiles)
        for number, profile in enumerate(of_gpu or ())
    )
    return replace(MIXED, gpus=gpus, mig_devices=devices)
