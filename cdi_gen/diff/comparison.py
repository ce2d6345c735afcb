# SPDX-License-Identifier: Apache-2.0
"""Compares two contents: what was added, removed and changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cdi_gen.diff.contents import Contents, Device
from cdi_gen.paths import base_name, parent

Pair = tuple[str, str]


class DeviceChange(NamedTuple):
    """A device of both sides whose nodes, names or model differ."""

    name: str
    added: tuple[str, ...]
    """Nodes, or ``model X``."""
    removed: tuple[str, ...]


class Difference(NamedTuple):
    """The differences; false if there are none. Everything is sorted."""

    driver: Pair | None
    devices_added: tuple[str, ...]
    devices_removed: tuple[str, ...]
    devices_changed: tuple[DeviceChange, ...]
    nodes_added: tuple[str, ...]
    nodes_removed: tuple[str, ...]
    nodes_changed: tuple[tuple[str, str, str], ...]
    """(path, old numbers, new numbers)."""
    files_added: tuple[str, ...]
    files_removed: tuple[str, ...]
    files_changed: tuple[Pair, ...]
    """(old, new): the same file of another version, or with another place in the container."""
    settings_added: tuple[str, ...]
    settings_removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return self != _EQUAL


_EQUAL = Difference(None, (), (), (), (), (), (), (), (), (), (), ())


def compare(old: Contents, new: Contents) -> Difference:
    """Return the differences between two contents."""
    old_devices, new_devices, pairs = _paired(old.devices, new.devices)
    removed, added, changed = _files(old, new)
    old_settings, new_settings = old.settings, new.settings
    if old_settings is None or new_settings is None:
        old_settings = new_settings = ()
    return Difference(
        driver=_driver(old, new),
        devices_added=tuple(sorted(map(_name, new_devices))),
        devices_removed=tuple(sorted(map(_name, old_devices))),
        devices_changed=tuple(change for pair in pairs if (change := _change(*pair)) is not None),
        nodes_added=_only(new.nodes, old.nodes),
        nodes_removed=_only(old.nodes, new.nodes),
        nodes_changed=tuple(
            (path, numbers, new.nodes[path])
            for path, numbers in sorted(old.nodes.items())
            if path in new.nodes and numbers and new.nodes[path] not in {numbers, ""}
        ),
        files_added=added,
        files_removed=removed,
        files_changed=changed,
        settings_added=_only(new_settings, old_settings),
        settings_removed=_only(old_settings, new_settings),
    )


def _driver(old: Contents, new: Contents) -> Pair | None:
    if old.driver_version and new.driver_version and old.driver_version != new.driver_version:
        return old.driver_version, new.driver_version
    return None


def _only(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({*one} - {*other}))


def _paired(
    old: tuple[Device, ...], new: tuple[Device, ...]
) -> tuple[list[Device], list[Device], list[tuple[Device, Device]]]:
    """Return the devices of one side only, and the pairs."""
    remaining = [*new]
    single: list[Device] = []
    pairs: list[tuple[Device, Device]] = []
    for device in sorted(old, key=lambda device: -len(device.names)):
        candidates = sorted(remaining, key=lambda other: -_likeness(device, other))
        if candidates and _likeness(device, candidates[0]):
            pairs.append((device, candidates[0]))
            remaining.remove(candidates[0])
        else:
            single.append(device)
    return single, remaining, sorted(pairs)


def _likeness(one: Device, other: Device) -> int:
    """Return how sure it is that two devices are the same; 0 if they are not."""
    for weight, prefixes in _LASTING.items():
        own, others = (
            {name for name in device.names if name.startswith(prefixes)} for device in (one, other)
        )
        if own and others:
            return weight if own & others else 0
    return len({*one.names} & {*other.names})


_LASTING = {100: ("GPU-", "MIG-"), 50: ("pci-",)}
"""The beginnings of names that stay with a device, by weight: a UUID counts before a PCI address,
and both count before an index."""


def _change(old: Device, new: Device) -> DeviceChange | None:
    added, removed = _only(new.nodes, old.nodes), _only(old.nodes, new.nodes)
    if old.model and new.model and old.model != new.model:
        added += (f"model {new.model}",)
        removed += (f"model {old.model}",)
    if not added and not removed:
        return None
    return DeviceChange(_name(new), added, removed)


def _name(device: Device) -> str:
    first, *others = device.names
    return f"{first} ({', '.join(others)})" if others else first


def _files(
    old: Contents, new: Contents
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Pair, ...]]:
    """Return the files of one side only, and those whose version or place in the container differs.

    A library of another driver version is one change, not two.
    """
    removed, added = _only(old.files, new.files), _only(new.files, old.files)
    by_name = {_unversioned(path, new.driver_version): path for path in added}
    renamed = {
        path: by_name[name]
        for path in removed
        if (name := _unversioned(path, old.driver_version)) in by_name
    }
    moved = [
        (_placed(path, old.files[path]), _placed(path, new.files[path]))
        for path in sorted(old.files)
        if path in new.files
        and old.files[path]
        and new.files[path]
        and old.files[path] != new.files[path]
    ]
    return (
        tuple(path for path in removed if path not in renamed),
        tuple(path for path in added if path not in renamed.values()),
        (*renamed.items(), *moved),
    )


def _unversioned(path: str, version: str | None) -> tuple[str, str]:
    """Return directory and name of a file, with ``*`` for the version of the driver."""
    if not version:
        return parent(path), base_name(path)
    return parent(path).replace(version, "*"), base_name(path).replace(version, "*")


def _placed(path: str, containers: tuple[str, ...]) -> str:
    return f"{path} at {', '.join(containers)}"


def lines(difference: Difference) -> Iterator[str]:
    """Yield one line for each difference: ``+`` added, ``-`` removed, ``~`` changed."""
    if difference.driver:
        yield f"~ driver {difference.driver[0]} -> {difference.driver[1]}"
    for kind, removed, added in (
        ("device", difference.devices_removed, difference.devices_added),
        ("node", difference.nodes_removed, difference.nodes_added),
        ("file", difference.files_removed, difference.files_added),
        ("setting", difference.settings_removed, difference.settings_added),
    ):
        yield from (f"- {kind} {name}" for name in removed)
        yield from (f"+ {kind} {name}" for name in added)
        if kind == "device":
            for change in difference.devices_changed:
                words = [f"-{name}" for name in change.removed]
                words += [f"+{name}" for name in change.added]
                yield f"~ device {change.name}: {' '.join(words)}"
        elif kind == "node":
            for path, old, new in difference.nodes_changed:
                yield f"~ node {path} {old} -> {new}"
        elif kind == "file":
            for old, new in difference.files_changed:
                yield f"~ file {old} -> {new}"


def document(difference: Difference) -> dict[str, object]:
    """Return the JSON form."""
    return {
        "different": bool(difference),
        "driver": _pair(difference.driver) if difference.driver else None,
        "devices": {
            "added": difference.devices_added,
            "removed": difference.devices_removed,
            "changed": [change._asdict() for change in difference.devices_changed],
        },
        "nodes": {
            "added": difference.nodes_added,
            "removed": difference.nodes_removed,
            "changed": [
                {"path": path, **_pair((old, new))} for path, old, new in difference.nodes_changed
            ],
        },
        "files": {
            "added": difference.files_added,
            "removed": difference.files_removed,
            "changed": [_pair(pair) for pair in difference.files_changed],
        },
        "settings": {
            "added": difference.settings_added,
            "removed": difference.settings_removed,
        },
    }


def _pair(pair: Pair) -> dict[str, str]:
    return {"old": pair[0], "new": pair[1]}
