# SPDX-License-Identifier: Apache-2.0
"""The contents of a host or of specs, in a form in which they can be compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from cdi_gen.cdi.model import ContainerEdits, DeviceNode, Spec
from cdi_gen.generate.device_nodes import gpu_nodes, mig_nodes
from cdi_gen.generate.naming import device_names
from cdi_gen.inventory import CharDevice, Gpu, Inventory, MigDevice
from cdi_gen.paths import base_name, join

MERGED = frozenset({"all", "none"})
"""Devices that only combine others, or give nothing."""

_VERSION = re.compile(r"(?:libcuda|libnvidia-ml)\.so\.(\d{2,4}\.\d{1,4}(?:\.\d{1,4})?)", re.ASCII)


class Device(NamedTuple):
    """A GPU, a MIG device, or any other device of a spec."""

    names: tuple[str, ...]
    """Every name, the first one for people. A spec has one device for each name."""
    nodes: frozenset[str]
    """Paths on the host of its own nodes, which may have several names in the container."""
    model: str = ""
    """Model of the GPU, or profile of the MIG device; empty if unknown."""


class Contents(NamedTuple):
    """What containers get."""

    driver_version: str | None
    """None if no file shows it."""
    devices: tuple[Device, ...]
    nodes: dict[str, str]
    """``major:minor`` of each node by its path on the host; empty if the spec does not say."""
    files: dict[str, tuple[str, ...]]
    """The paths in the container of each mounted file, by its path on the host; empty if unknown,
    as in an inventory."""
    settings: tuple[str, ...] | None = None
    """Environment variables and hooks as text; None if there are none to compare, because they
    depend on options."""


def of_inventory(inventory: Inventory) -> Contents:
    """Return the contents of a host."""
    gpus = {gpu.index: gpu for gpu in inventory.gpus}
    devices = [
        _device(gpu, gpu_nodes(gpu), gpu.model, inventory.dev_root)
        for gpu in inventory.gpus
        if not gpu.mig_enabled
    ]
    nodes = [*inventory.control_nodes, *inventory.transport_nodes]
    nodes += [node for gpu in inventory.gpus for node in gpu_nodes(gpu)]
    for mig in inventory.mig_devices:
        own = mig_nodes(mig, gpus[mig.gpu_index])
        devices.append(_device(mig, own, mig.profile, inventory.dev_root))
        nodes += own
    paths = [library.path for library in inventory.libraries]
    paths += [file.path for file in (*inventory.files, *inventory.transport_files)]
    driver = inventory.driver
    return Contents(
        driver_version=driver.version if driver else None,
        devices=tuple(devices),
        nodes={join(inventory.dev_root, node.path): f"{node.major}:{node.minor}" for node in nodes},
        files=dict.fromkeys(map(_merged, paths), ()),
    )


def _device(
    device: Gpu | MigDevice, nodes: Iterable[CharDevice], model: str, dev_root: str
) -> Device:
    names = device_names(device)
    return Device(
        tuple(names.values()), frozenset(join(dev_root, node.path) for node in nodes), model
    )


def of_specs(specs: Iterable[Spec], *, with_settings: bool = False) -> Contents:
    """Return the contents of specs; devices with the same nodes are one device with several names.

    Args:
        specs: the specs.
        with_settings: whether to compare environment variables and hooks.
    """
    specs = tuple(specs)
    edits = [spec.container_edits for spec in specs]
    edits += [device.container_edits for spec in specs for device in spec.devices]
    nodes = [node for edit in edits for node in edit.device_nodes]
    files: dict[str, set[str]] = {}
    for edit in edits:
        for mount in edit.mounts:
            if mount.host_path.startswith("/") and not mount.host_path.startswith("/dev/"):
                files.setdefault(_merged(mount.host_path), set()).add(mount.container_path)
    return Contents(
        driver_version=_driver_version(files),
        devices=tuple(device for spec in specs for device in _devices_of(spec)),
        nodes={node.host_path or node.path: _numbers(node) for node in nodes},
        files={path: tuple(sorted(paths)) for path, paths in files.items()},
        settings=tuple(sorted(set(_settings(edits)))) if with_settings else None,
    )


def _devices_of(spec: Spec) -> Iterable[Device]:
    by_edits: dict[ContainerEdits, list[str]] = {}
    for device in spec.devices:
        if device.name not in MERGED:
            by_edits.setdefault(device.container_edits, []).append(device.name)
    if not by_edits and spec.devices:
        # A spec may have the device `all` alone, as those of transports do.
        by_edits = {device.container_edits: [device.name] for device in spec.devices}
    is_gpu = spec.kind.endswith("/gpu")
    for edits, names in by_edits.items():
        shown = names if is_gpu else [f"{spec.kind}={name}" for name in names]
        paths = frozenset(node.host_path or node.path for node in edits.device_nodes)
        yield Device(tuple(shown), paths)


def _numbers(node: DeviceNode) -> str:
    if node.major is None or node.minor is None:
        return ""
    return f"{node.major}:{node.minor}"


def _driver_version(files: Iterable[str]) -> str | None:
    versions = Counter(match[1] for path in files if (match := _VERSION.fullmatch(base_name(path))))
    return versions.most_common(1)[0][0] if versions else None


def _merged(path: str) -> str:
    """Return a path with the directories of a merged /usr, where /lib is a link to /usr/lib."""
    return f"/usr{path}" if path.startswith(("/lib", "/bin/", "/sbin/")) else path


def _settings(edits: Iterable[ContainerEdits]) -> Iterable[str]:
    for edit in edits:
        yield from (f"env {variable}" for variable in edit.env)
        yield from (
            f"hook {hook.hook_name}: {hook.path} {' '.join(hook.args[1:])}".rstrip()
            for hook in edit.hooks
        )
