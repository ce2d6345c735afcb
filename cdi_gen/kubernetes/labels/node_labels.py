# SPDX-License-Identifier: Apache-2.0
"""The labels of a node, as a function of the facts about its host.

gpu-feature-discovery fails as a whole if NVML does not report one of the values; here the labels of
that value are missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdi_base.findings import Finding
from cdi_gen.inventory import VFIO, Gpu, Inventory
from cdi_gen.inventory.properties import Properties
from cdi_gen.kubernetes.labels import resource_labels
from cdi_gen.kubernetes.labels.resource_labels import Labels
from cdi_gen.kubernetes.labels.settings import LabelSettings
from cdi_gen.kubernetes.labels.values import MAX_LENGTH, sanitised, valid
from cdi_gen.kubernetes.probe import Facts
from cdi_gen.kubernetes.resources.layout import layout, without_displays
from cdi_gen.kubernetes.settings.model import PREFIX

UNKNOWN = "unknown"
UNKNOWN_VERSION = "unknown.unknown.unknown"
"""The driver version of Tegra, and of a host that passes its GPUs through."""
NO_CUDA = "0.0"
"""The CUDA version of a host that passes its GPUs through."""
MODES = {0x0300: "graphics", 0x0302: "compute"}
"""The mode of a GPU by its PCI class: a VGA controller, or a 3D controller."""


def labels(facts: Facts | None, settings: LabelSettings, now: float) -> Labels:
    """Return the labels of a node.

    Args:
        facts: the facts about the host; None: the host cannot be examined, and the labels do not
            describe devices.
        settings: how the labels are made.
        now: the time of the label ``gfd.timestamp``, in seconds since 1970.
    """
    values: Labels = {}
    if not settings.no_timestamp:
        values[f"{PREFIX}gfd.timestamp"] = str(int(now))
    inventory = None if facts is None else without_displays(facts.inventory)
    if facts is not None and inventory is not None and inventory.gpus:
        values |= _device_labels(inventory, facts.properties, settings)
    if facts is not None:
        values |= _vgpu_labels(facts.properties)
    return {name: valid(value) for name, value in sorted(values.items())}


def labels_findings(facts: Facts, settings: LabelSettings) -> tuple[Finding, ...]:
    """Return what the labels of a node cannot express, or only in a shorter form."""
    inventory = without_displays(facts.inventory)
    properties, plugin = facts.properties, settings.plugin
    if not inventory.gpus:
        return ()
    findings = []
    models = sorted({resource_labels.product(gpu, properties) for gpu in inventory.gpus})
    if len(models) > 1:
        described = resource_labels.described_gpu(inventory.gpus, properties)
        model = resource_labels.product(described, properties)
        others = ", ".join(other for other in models if other != model)
        message = f"the labels describe {model} only, and the node also has {others}"
        findings.append(Finding("CDG-N301", "warning", message))
    if plugin.mig_strategy == "single":
        for gpu, reason in layout(inventory, "single").left_out:
            name = gpu.uuid or f"GPU {gpu.index}"
            message = f"the labels do not describe {name}: {reason}"
            findings.append(Finding("CDG-N302", "warning", message, subject=name))
    fabrics = _fabrics(inventory.gpus, properties)
    if len(fabrics) > 1:
        names = ", ".join(f"{cluster}.{clique}" for cluster, clique in sorted(fabrics))
        message = f"the GPUs are in several NVLink cliques, so that the node has no label: {names}"
        findings.append(Finding("CDG-N303", "warning", message))
    products = models + resource_labels.mig_products(inventory, properties, plugin)
    findings += [
        Finding(
            "CDG-N304", "warning", f"the label of {text!r} is shortened to {MAX_LENGTH} characters"
        )
        for text in products
        if len(sanitised(text)) > MAX_LENGTH
    ]
    return tuple(findings)


def _device_labels(inventory: Inventory, properties: Properties, settings: LabelSettings) -> Labels:
    gpus, plugin = inventory.gpus, settings.plugin
    by_mps = plugin.sharing.strategy == "mps" and not any(gpu.mig_enabled for gpu in gpus)
    capable = any(properties.gpu(gpu.index).mig_capable for gpu in gpus)
    return {
        f"{PREFIX}gpu.machine": UNKNOWN if properties.machine is None else properties.machine,
        f"{PREFIX}gpu.mode": _mode(gpus, properties),
        f"{PREFIX}mig.capable": _boolean(capable),
        f"{PREFIX}mps.capable": _boolean(by_mps),
        **_version_labels(inventory, properties),
        **resource_labels.gpu_labels(gpus, properties, plugin),
        **resource_labels.mig_labels(inventory, properties, plugin),
        **_clique_label(gpus, properties),
    }


def _version_labels(inventory: Inventory, properties: Properties) -> Labels:
    """Return the versions of the driver and of CUDA, under the names of today and the old ones."""
    version = UNKNOWN_VERSION if inventory.driver is None else inventory.driver.version
    major, minor, revision = (*version.split("."), "", "")[:3]
    values: Labels = {
        "cuda.driver.major": major,
        "cuda.driver.minor": minor,
        "cuda.driver.rev": revision,
        "cuda.driver-version.major": major,
        "cuda.driver-version.minor": minor,
        "cuda.driver-version.revision": revision,
        "cuda.driver-version.full": version,
    }
    cuda_version = NO_CUDA if inventory.platform == VFIO else properties.cuda_version
    if cuda_version is not None:
        major, _, minor = cuda_version.partition(".")
        values |= {
            "cuda.runtime.major": major,
            "cuda.runtime.minor": minor,
            "cuda.runtime-version.major": major,
            "cuda.runtime-version.minor": minor,
            "cuda.runtime-version.full": cuda_version,
        }
    return {PREFIX + name: value for name, value in values.items()}


def _mode(gpus: Sequence[Gpu], properties: Properties) -> str:
    classes = {properties.gpu(gpu.index).pci_class for gpu in gpus}
    pci_class = classes.pop()
    return UNKNOWN if classes or pci_class is None else MODES.get(pci_class, UNKNOWN)


def _fabrics(gpus: Sequence[Gpu], properties: Properties) -> set[tuple[str, int]]:
    values = [properties.gpu(gpu.index) for gpu in gpus]
    return {
        (value.fabric_cluster, value.fabric_clique)
        for value in values
        if value.fabric_cluster is not None and value.fabric_clique is not None
    }


def _clique_label(gpus: Sequence[Gpu], properties: Properties) -> Labels:
    fabrics = _fabrics(gpus, properties)
    if len(fabrics) != 1:
        return {}
    ((cluster, clique),) = fabrics
    return {f"{PREFIX}gpu.clique": f"{cluster}.{clique}"}


def _vgpu_labels(properties: Properties) -> Labels:
    if properties.vgpu is None:
        return {}
    values = {f"{PREFIX}vgpu.present": _boolean(properties.vgpu)}
    if properties.vgpu_host_driver_version is not None:
        values[f"{PREFIX}vgpu.host-driver-version"] = properties.vgpu_host_driver_version
    if properties.vgpu_host_driver_branch is not None:
        values[f"{PREFIX}vgpu.host-driver-branch"] = properties.vgpu_host_driver_branch
    return values


def _boolean(value: bool) -> str:
    return "true" if value else "false"
