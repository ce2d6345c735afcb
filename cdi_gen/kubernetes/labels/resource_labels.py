# SPDX-License-Identifier: Apache-2.0
"""The labels of a resource: of the GPUs, or of the MIG devices of one profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cdi_gen.inventory import Gpu, Inventory, MigDevice
from cdi_gen.inventory.properties import MigProperties, Properties
from cdi_gen.kubernetes.labels.values import UNDEFINED, family, joined
from cdi_gen.kubernetes.resources.layout import layout
from cdi_gen.kubernetes.settings import Settings, SharedResource
from cdi_gen.kubernetes.settings.model import PREFIX
from cdi_gen.kubernetes.settings.names import mig_resource_name

GPU = f"{PREFIX}gpu"

MIG_KEYS = {
    "memory": "memory_mib",
    "multiprocessors": "multiprocessors",
    "slices.gi": "gpu_instance_slices",
    "slices.ci": "compute_instance_slices",
    "engines.copy": "copy_engines",
    "engines.decoder": "decoders",
    "engines.encoder": "encoders",
    "engines.jpeg": "jpeg_engines",
    "engines.ofa": "ofa_engines",
}
"""The last part of a label of MIG devices, and the property that it has."""

Labels = dict[str, str]


def product(gpu: Gpu, properties: Properties) -> str:
    """Return the product name of a GPU."""
    return properties.gpu(gpu.index).product or gpu.model


def described_gpu(gpus: Sequence[Gpu], properties: Properties) -> Gpu:
    """Return the GPU that the labels of a node describe, if the node has different ones.

    It has the model of most GPUs. gpu-feature-discovery describes any of them. Of one model, a GPU
    without MIG is described rather than one with MIG, and the last one of them.
    """
    counts = Counter(product(gpu, properties) for gpu in gpus)
    whole = Counter(product(gpu, properties) for gpu in gpus if not gpu.mig_enabled)
    model = max(counts, key=lambda name: (bool(whole[name]), counts[name]))
    return [
        gpu
        for gpu in gpus
        if product(gpu, properties) == model and gpu.mig_enabled != bool(whole[model])
    ][-1]


def gpu_labels(gpus: Sequence[Gpu], properties: Properties, settings: Settings) -> Labels:
    """Return the labels of the GPUs as whole ones.

    A GPU with MIG enabled is not shared as a whole: it has 0 replicas.
    """
    gpu = described_gpu(gpus, properties)
    model = product(gpu, properties)
    count = sum(product(other, properties) == model for other in gpus)
    labels = _base(GPU, count, (model,), settings, never_shared=gpu.mig_enabled)
    values = properties.gpu(gpu.index)
    # gpu-feature-discovery has the bytes that a GPU which is passed through maps in this label.
    memory = values.memory_mib or values.addressable_memory
    if memory:
        labels[f"{GPU}.memory"] = str(memory)
    if values.addressable_memory is not None:
        # Its compute capability is not known: gpu-feature-discovery writes -1, which is no value of
        # a label.
        labels[f"{GPU}.family"] = UNDEFINED
    elif values.compute_capability:
        major, minor = map(int, values.compute_capability.split("."))
        labels[f"{GPU}.family"] = family(major, minor)
        labels[f"{GPU}.compute.major"] = str(major)
        labels[f"{GPU}.compute.minor"] = str(minor)
    return labels


def mig_labels(inventory: Inventory, properties: Properties, settings: Settings) -> Labels:
    """Return the labels of the MIG devices, as the MIG strategy says."""
    if settings.mig_strategy == "none":
        return {}
    labels: Labels = {f"{PREFIX}mig.strategy": settings.mig_strategy}
    if settings.mig_strategy == "single":
        return labels | _single_labels(inventory, properties, settings)
    by_profile: dict[str, list[MigDevice]] = {}
    for device in inventory.mig_devices:
        if device.profile:
            by_profile.setdefault(device.profile, []).append(device)
    for profile, devices in by_profile.items():
        name = mig_resource_name(profile)
        labels |= _profile_labels(name, devices, inventory, properties, settings)
    return labels


def mig_products(inventory: Inventory, properties: Properties, settings: Settings) -> list[str]:
    """Return the products of the MIG devices that have labels, before they are shortened."""
    devices = layout(inventory, settings.mig_strategy).mig_devices
    gpus = {gpu.index: gpu for gpu in inventory.gpus}
    return sorted(
        {
            f"{product(gpus[index], properties)} MIG {mig.profile}"
            for index, of_gpu in devices.items()
            for mig in of_gpu
        }
    )


def _single_labels(inventory: Inventory, properties: Properties, settings: Settings) -> Labels:
    """Return the labels of the devices that the device plugin advertises as ``nvidia.com/gpu``.

    gpu-feature-discovery writes ``MIG-INVALID`` for each layout that is not uniform, because
    NVIDIA's plugin then ends. Here it says that nothing is advertised.
    """
    advertised = layout(inventory, "single")
    devices = [device for of_gpu in advertised.mig_devices.values() for device in of_gpu]
    if devices:
        return _profile_labels(GPU, devices, inventory, properties, settings)
    divided = [gpu for gpu in inventory.gpus if gpu.mig_enabled]
    if not divided:
        return {}
    if advertised.whole:
        return gpu_labels(advertised.whole, properties, settings)
    return {
        f"{GPU}.product": joined(product(divided[0], properties), "MIG", "INVALID"),
        f"{GPU}.count": "0",
        f"{GPU}.replicas": "0",
        f"{GPU}.sharing-strategy": "",
        f"{GPU}.memory": "0",
    }


def _profile_labels(
    name: str,
    devices: Sequence[MigDevice],
    inventory: Inventory,
    properties: Properties,
    settings: Settings,
) -> Labels:
    device = devices[0]
    (gpu,) = [gpu for gpu in inventory.gpus if gpu.index == device.gpu_index]
    profile = device.profile.replace("+", ".")
    parts = (product(gpu, properties), "MIG", profile)
    labels = _base(name, len(devices), parts, settings, mig=True)
    for attributes in properties.mig_devices:
        if attributes.uuid == device.uuid:
            labels |= _attributes(name, attributes)
    return labels


def _attributes(name: str, attributes: MigProperties) -> Labels:
    return {f"{name}.{key}": str(getattr(attributes, field)) for key, field in MIG_KEYS.items()}


def _base(
    name: str,
    count: int,
    parts: Sequence[str],
    settings: Settings,
    *,
    mig: bool = False,
    never_shared: bool = False,
) -> Labels:
    """Return the labels that every resource has."""
    shared = None if never_shared else shared_resource(name, settings, mig=mig)
    renamed = shared is not None and settings.sharing.advertised_name(shared) != shared.name
    suffix = ("SHARED",) if shared is not None and not renamed else ()
    return {
        f"{name}.product": joined(*parts, *suffix),
        f"{name}.count": str(count),
        f"{name}.replicas": "0" if never_shared else str(shared.replicas if shared else 1),
        f"{name}.sharing-strategy": settings.sharing.strategy if shared else "none",
    }


def shared_resource(name: str, settings: Settings, *, mig: bool) -> SharedResource | None:
    """Return the sharing of a resource; None if it is not shared, as MIG devices by MPS."""
    sharing = settings.sharing
    if mig and sharing.strategy == "mps":
        return None
    entries = (shared for shared in sharing.resources if shared.name == name)
    return next(filter(sharing.is_shared, entries), None)
