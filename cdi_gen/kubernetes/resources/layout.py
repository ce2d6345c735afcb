# SPDX-License-Identifier: Apache-2.0
"""Which GPUs and MIG devices a MIG strategy advertises. Device plugin and labels both follow it.

NVIDIA's plugin ends on a MIG GPU without MIG devices, on a profile whose compute instances are a
part of a GPU instance, and with the strategy single on anything mixed. Here such a GPU costs itself
and its neighbours nothing: the reason says why it is not advertised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from cdi_gen.inventory import Gpu, Inventory, MigDevice
from cdi_gen.kubernetes.settings.model import MigStrategy

DISPLAYS = frozenset({"DGX Display", "NVIDIA DGX Display"})
"""The GPU of a DGX Station that drives its display. NVIDIA's programs leave it out, too."""


class Layout(NamedTuple):
    """The devices of a node that a MIG strategy advertises."""

    whole: tuple[Gpu, ...]
    mig_devices: Mapping[int, tuple[MigDevice, ...]]
    """The MIG devices by the index of their GPU; only of GPUs that have some to advertise."""
    left_out: tuple[tuple[Gpu, str], ...] = ()
    """The GPUs of which nothing is advertised, and why."""


def layout(inventory: Inventory, strategy: MigStrategy) -> Layout:
    """Return the devices that a strategy advertises."""
    displays = [gpu for gpu in inventory.gpus if gpu.model in DISPLAYS]
    if displays:
        devices = layout(without_displays(inventory), strategy)
        left_out = tuple((gpu, "it drives the display of a DGX Station") for gpu in displays)
        return devices._replace(left_out=(*devices.left_out, *left_out))
    if strategy == "none":
        return Layout(inventory.gpus, {})
    if strategy == "mixed":
        return _mixed(inventory)
    return _single(inventory)


def without_displays(inventory: Inventory) -> Inventory:
    """Return the inventory without GPUs that are not for programs."""
    gpus = tuple(gpu for gpu in inventory.gpus if gpu.model not in DISPLAYS)
    return inventory if gpus == inventory.gpus else replace(inventory, gpus=gpus)


def _mixed(inventory: Inventory) -> Layout:
    devices = _by_gpu(inventory)
    return Layout(
        tuple(gpu for gpu in inventory.gpus if not gpu.mig_enabled),
        devices,
        _empty(inventory, devices),
    )


def _single(inventory: Inventory) -> Layout:
    """Return the devices of one kind, which all have the same resource.

    They are the MIG devices of the profile that most have, of GPUs with one profile; without any,
    the GPUs that are not divided.
    """
    devices = _by_gpu(inventory)
    profiles = {index: {mig.profile for mig in of_gpu} for index, of_gpu in devices.items()}
    counts = Counter(
        mig.profile
        for index, of_gpu in devices.items()
        for mig in of_gpu
        if mig.profile and len(profiles[index]) == 1
    )
    profile = counts.most_common(1)[0][0] if counts else ""
    uniform = {index: devices[index] for index in devices if profiles[index] == {profile}}
    if not profile:
        uniform = {}
    whole = () if uniform else tuple(gpu for gpu in inventory.gpus if not gpu.mig_enabled)
    left_out = list(_empty(inventory, devices))
    for gpu in inventory.gpus:
        if gpu.index in devices and gpu.index not in uniform:
            left_out.append((gpu, _other_profiles(profiles[gpu.index], profile)))
        elif uniform and not gpu.mig_enabled:
            left_out.append((gpu, "MIG is not enabled on it, as it is on other GPUs"))
    return Layout(whole, uniform, tuple(left_out))


def _other_profiles(own: set[str], advertised: str) -> str:
    if "" in own:
        return "NVML does not report the profile of each of its MIG devices"
    others = ", ".join(sorted(own - {advertised}))
    reason = f"it has MIG devices of {others} and the strategy is single"
    return f"{reason}; those of other GPUs are {advertised}" if advertised else reason


def _by_gpu(inventory: Inventory) -> dict[int, tuple[MigDevice, ...]]:
    """Return the MIG devices by the index of their GPU, of the GPUs that have some."""
    devices: dict[int, tuple[MigDevice, ...]] = {}
    for gpu in inventory.gpus:
        of_gpu = tuple(mig for mig in inventory.mig_devices if mig.gpu_index == gpu.index)
        if gpu.mig_enabled and of_gpu:
            devices[gpu.index] = of_gpu
    return devices


def _empty(
    inventory: Inventory, devices: Mapping[int, tuple[MigDevice, ...]]
) -> tuple[tuple[Gpu, str], ...]:
    return tuple(
        (gpu, "MIG is enabled on it and it has no MIG device")
        for gpu in inventory.gpus
        if gpu.mig_enabled and gpu.index not in devices
    )
