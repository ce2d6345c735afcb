# SPDX-License-Identifier: Apache-2.0
"""Finds the name that was meant: of another naming scheme, of another kind, or of another device.

Specs define names; the inventory of the host says which of them are of the same GPU or MIG device.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from cdi_base import nvidia
from cdi_base.findings import Finding
from cdi_gen.cdi.model import ContainerEdits, Device, Spec
from cdi_gen.generate.naming import device_names
from cdi_gen.inventory import Gpu, Inventory, MigDevice

_INDEX = re.compile(r"(?:gpu|nvidia)?([0-9]{1,4})")
_MIG_INDEX = re.compile(r"(?:mig|gpu)?([0-9]{1,4})[:.]([0-9]{1,4})")
_UUID_START = re.compile(r"(GPU|MIG)-[0-9A-Fa-f-]{1,36}")
_MOST_LISTED = 8
_EXAMINE_GPUS = "sudo cdi-gen doctor driver"
"""The command that says why the driver has no GPU."""
_MIG_DEVICES_NOT_LISTED = "CDG-H107"


class Defined(NamedTuple):
    """A device that a spec defines."""

    name: str
    """Qualified."""
    device: Device
    spec: Spec


def suggestion(
    requested: str, defined: Iterable[Defined], inventory: Inventory | None
) -> Finding | None:
    """Return what is wrong with a name that no spec defines; None if nothing similar is defined.

    Args:
        requested: the name as the user gave it; perhaps without a kind.
        defined: the devices that specs of the host define.
        inventory: of the host; None if it has no driver.
    """
    devices = {device.name: device for device in defined}
    kind, _, name = requested.rpartition("=") if "=" in requested else ("", "", requested)
    if "/" in name and not kind:
        return _bare_kind(requested, devices)
    target = hardware(name, inventory) if inventory else None
    if target is not None and inventory is not None:
        same = _names_of(target, kind, devices, inventory)
        if same:
            message = f"{_described(target, inventory)} has the name {same[0]} in the specs"
            return _renamed(f"{requested} is not defined: {message}", requested, same[0])
    gone = _gone(requested, name, devices, inventory)
    if gone:
        return gone
    same_device = [other for other in devices if other.rpartition("=")[2] == name]
    if same_device:
        other = _nearest(requested, same_device)
        message = f"no spec has the kind {kind}" if kind else f"{name} has no kind"
        return _renamed(f"{message}; {other} is defined", requested, other)
    candidates = [other for other in devices if not kind or other.startswith(f"{kind}=")]
    similar = _similar(name, candidates)
    if similar:
        return _renamed(f"{requested} is not defined; {similar} is", requested, similar)
    if not candidates:
        return None
    listed = ", ".join(candidates[:_MOST_LISTED])
    more = len(candidates) - _MOST_LISTED
    message = f"{requested} is not defined; defined are {listed}"
    if more > 0:
        message += f" and {more} more"
    return Finding("CDG-Y007", "error", message, subject=requested, fix=f"--device {candidates[0]}")


def hardware(name: str, inventory: Inventory) -> Gpu | MigDevice | None:
    """Return the GPU or MIG device that a device name of any naming scheme stands for."""
    if match := _MIG_INDEX.fullmatch(name):
        gpu_index, index = map(int, match.groups())
        return next(
            (
                device
                for device in inventory.mig_devices
                if (device.gpu_index, device.index) == (gpu_index, index)
            ),
            None,
        )
    index_match = _INDEX.fullmatch(name)
    pci = nvidia.pci_name(name) or (name.lower() if nvidia.is_pci_name(name) else None)
    devices: list[Gpu | MigDevice] = [*inventory.gpus, *inventory.mig_devices]
    for device in devices:
        names = device_names(device)
        uuid = (device.uuid or "").lower()
        if uuid and _UUID_START.fullmatch(name) and uuid.startswith(name.lower()):
            return device
        if isinstance(device, Gpu):
            if index_match and device.index == int(index_match[1]):
                return device
            if pci and pci == names.get("pci"):
                return device
    return None


def notes(name: str, edits: ContainerEdits, path: str, inventory: Inventory) -> Iterator[Finding]:
    """Yield what is to be known of a defined device: which hardware it is, and whether it is."""
    short_name = name.partition("=")[2]
    nodes = {node.host_path or node.path for node in edits.device_nodes}
    gpu_nodes = {path for path in nodes if nvidia.gpu_minor(path.rpartition("/")[2]) is not None}
    target = hardware(short_name, inventory)
    if target is None:
        if _UUID_START.fullmatch(short_name) or _INDEX.fullmatch(short_name) or ":" in short_name:
            yield _absent_hardware(name, inventory)
        return
    gpu = _gpu_of(target, inventory)
    own = {node.path for node in gpu.nodes}
    if gpu_nodes and own and not own & gpu_nodes:
        other = next(
            (other for other in inventory.gpus if {node.path for node in other.nodes} & gpu_nodes),
            None,
        )
        given = _described(other, inventory) if other else ", ".join(sorted(gpu_nodes))
        yield Finding(
            "CDG-V108",
            "error",
            f"{name} of {path} gives {given}, but {_described(gpu, inventory)} has "
            f"{', '.join(sorted(own))}",
            subject=name,
            fix=f"sudo cdi-gen generate -o {shlex.quote(path)}",
        )
    elif isinstance(target, Gpu) and target.minor is not None and target.minor != target.index:
        yield Finding(
            "CDG-Y010",
            "info",
            f"{name} is {_described(target, inventory)}, whose node is /dev/nvidia{target.minor}: "
            f"the index is not the number of the node, and may change at a boot",
            subject=name,
            fix=f"--device {name.partition('=')[0]}={_stable_name(target)}",
        )


def _stable_name(gpu: Gpu) -> str:
    names = device_names(gpu)
    return names.get("pci") or names.get("uuid") or names["index"]


def _absent_hardware(name: str, inventory: Inventory) -> Finding:
    gpus = "; ".join(_described(gpu, inventory) for gpu in inventory.gpus[:_MOST_LISTED])
    kind, _, short_name = name.partition("=")
    fix = _EXAMINE_GPUS
    if inventory.gpus:
        fix = f"--device {kind}={_stable_name(inventory.gpus[0])}"
    what = "MIG device" if _is_mig(short_name) else "GPU"
    return Finding(
        "CDG-V107",
        "error",
        f"the host has no {what} {short_name}; it has {gpus or 'no GPU'}",
        subject=name,
        fix=fix,
    )


def _bare_kind(requested: str, devices: Mapping[str, Defined]) -> Finding | None:
    names = [name for name in devices if name.startswith(f"{requested}=")]
    if not names:
        return None
    name = f"{requested}=all" if f"{requested}=all" in devices else names[0]
    listed = ", ".join(names[:_MOST_LISTED])
    message = f"{requested} is a kind and names no device; its devices are {listed}"
    return Finding("CDG-U009", "error", message, subject=requested, fix=f"--device {name}")


def _gone(
    requested: str, name: str, devices: Mapping[str, Defined], inventory: Inventory | None
) -> Finding | None:
    """A MIG device that is no more, or a UUID of no GPU of the host."""
    if _is_mig(name):
        kind = requested.rpartition("=")[0]
        others = [
            other
            for other in devices
            if _is_mig(other.rpartition("=")[2]) and other.startswith(kind)
        ]
        listed = ", ".join(others[:_MOST_LISTED]) or "none"
        message = f"{requested} is not defined: the MIG devices of the specs are {listed}"
        unseen = _unseen_mig(inventory)
        if unseen:
            message = f"{requested} is not defined, and cdi-gen cannot list the host's {unseen}"
        elif inventory and not inventory.mig_devices:
            message = f"{requested} is not defined: the host has no MIG device"
        elif inventory:
            message += "; a new MIG layout has new names"
        fix = f"--device {others[0]}" if others else "nvidia-smi mig -lgi; nvidia-smi mig -lci"
        if unseen:
            fix = "sudo cdi-gen doctor mig-devices"
        return Finding("CDG-Y008", "error", message, subject=requested, fix=fix)
    if inventory and nvidia.uuid(name):
        kind = requested.rpartition("=")[0]
        names = [
            same[0]
            for gpu in inventory.gpus
            if (same := _names_of(gpu, kind, devices, inventory, stable=True))
        ]
        gpus = "; ".join(_described(gpu, inventory) for gpu in inventory.gpus[:_MOST_LISTED])
        message = (
            f"no GPU of this host has the UUID {name}: a replaced board has another; the host has "
            f"{gpus or 'no GPU'}"
        )
        return Finding(
            "CDG-Y009",
            "error",
            message,
            subject=requested,
            fix=f"--device {names[0]}" if names else "",
        )
    return None


def _unseen_mig(inventory: Inventory | None) -> str | None:
    """Which MIG devices NVML does not list, and why; None if all are listed."""
    if inventory is None or inventory.mig_devices:
        return None
    return next(
        (
            f"{unusable.device}: {unusable.reason}"
            for unusable in inventory.unusable_devices
            if unusable.code == _MIG_DEVICES_NOT_LISTED
        ),
        None,
    )


def _is_mig(name: str) -> bool:
    return bool(_MIG_INDEX.fullmatch(name)) or name.upper().startswith("MIG-")


def _names_of(
    target: Gpu | MigDevice,
    kind: str,
    devices: Mapping[str, Defined],
    inventory: Inventory,
    *,
    stable: bool = False,
) -> list[str]:
    """The defined names of a GPU or MIG device, those of the requested kind first.

    A name counts only if its device has the GPU's node: a spec may have counted the GPUs otherwise.
    """
    names = device_names(target)
    order = ("pci", "uuid", "index", "type-index") if stable else (*names,)
    wanted = [names[strategy] for strategy in order if strategy in names]
    own = {node.path for node in _gpu_of(target, inventory).nodes}
    found = [
        device.name
        for name in wanted
        for device in devices.values()
        if device.name.rpartition("=")[2] == name and (not own or own & _node_paths(device))
    ]
    if not found and own and isinstance(target, Gpu):
        found = [device.name for device in devices.values() if _gpu_paths(device) == own]
    return sorted(found, key=lambda name: not name.startswith(f"{kind}="))


def _node_paths(device: Defined) -> set[str]:
    edits = device.spec.container_edits | device.device.container_edits
    return {node.host_path or node.path for node in edits.device_nodes}


def _gpu_paths(device: Defined) -> set[str]:
    """The paths of the nodes of GPUs that a device has."""
    return {
        path
        for path in _node_paths(device)
        if nvidia.gpu_minor(path.rpartition("/")[2]) is not None
    }


def _gpu_of(target: Gpu | MigDevice, inventory: Inventory) -> Gpu:
    if isinstance(target, Gpu):
        return target
    return next(gpu for gpu in inventory.gpus if gpu.index == target.gpu_index)


def _described(target: Gpu | MigDevice, inventory: Inventory) -> str:
    gpu = _gpu_of(target, inventory)
    identity = ", ".join(filter(None, (target.uuid, gpu.pci_address)))
    if isinstance(target, Gpu):
        return f"GPU {gpu.index} ({identity})"
    return f"MIG device {gpu.index}:{target.index} ({identity})"


def _renamed(message: str, requested: str, name: str) -> Finding:
    return Finding("CDG-Y007", "error", message, subject=requested, fix=f"--device {name}")


def _nearest(name: str, candidates: list[str]) -> str:
    from difflib import SequenceMatcher  # noqa: PLC0415 - for names that are not defined

    return max(candidates, key=lambda other: SequenceMatcher(None, name, other).ratio())


def _similar(name: str, candidates: list[str]) -> str | None:
    """The candidate that differs in capitals, a prefix, or a few letters."""
    from difflib import get_close_matches  # noqa: PLC0415 - as above

    by_short_name = {other.rpartition("=")[2]: other for other in candidates}
    folded = {short_name.lower(): other for short_name, other in by_short_name.items()}
    match = _INDEX.fullmatch(name)
    for spelling in (name.lower(), *((match[1], f"gpu{match[1]}") if match else ())):
        if spelling in folded:
            return folded[spelling]
    if match:
        return None  # GPU 7 is not GPU 0
    close = get_close_matches(name, by_short_name, n=1, cutoff=0.8)
    return by_short_name[close[0]] if close else None
