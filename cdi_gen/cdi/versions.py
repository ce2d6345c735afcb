# SPDX-License-Identifier: Apache-2.0
"""The versions of the standard, and the lowest that a spec may claim.

An engine ignores a whole file whose version is newer than it knows, or lower than its fields need;
so the right version is always the lowest that the fields allow. Source: the standard's SPEC.md
("Version") and its Go library's ``MinimumRequiredVersion``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cdi_gen.cdi.model import ContainerEdits, Spec

KNOWN_VERSIONS = (
    "0.1.0",
    "0.2.0",
    "0.3.0",
    "0.4.0",
    "0.5.0",
    "0.6.0",
    "0.7.0",
    "0.8.0",
    "1.0.0",
    "1.1.0",
)
"""Every released version, oldest first."""

EARLIEST = "0.3.0"
"""What a spec without any later field claims; older claims are refused since CDI's own 0.4.0."""


def minimum_version(spec: Spec) -> str:
    """Return the lowest version that has every field ``spec`` uses, whatever it claims."""
    return next((version for version, _, needed in _NEEDS if needed(spec)), EARLIEST)


def reasons(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Return which version each feature of ``spec`` needs, newest first: ``("0.7.0", ...)``."""
    return tuple((version, what) for version, what, needed in _NEEDS if needed(spec))


def is_known(version: str) -> bool:
    """Tell whether ``version`` was ever released."""
    return version in KNOWN_VERSIONS


def compare(one: str, other: str) -> int:
    """Return a number below, equal to or above 0 as ``one`` is older, the same or newer.

    Raises:
        ValueError: one of them is not ``major.minor.patch``.
    """
    a, b = _numbers(one), _numbers(other)
    return (a > b) - (a < b)


def _numbers(version: str) -> tuple[int, int, int]:
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{version!r} is not a version of the form 0.5.0")
    return int(parts[0]), int(parts[1]), int(parts[2])


def _edits(spec: Spec) -> Iterator[ContainerEdits]:
    yield spec.container_edits
    for device in spec.devices:
        yield device.container_edits


def _net_devices(spec: Spec) -> bool:
    return any(edits.net_devices for edits in _edits(spec))


def _monitoring(spec: Spec) -> bool:
    return any(
        edits.intel_rdt is not None
        and bool(edits.intel_rdt.schemata or edits.intel_rdt.enable_monitoring)
        for edits in _edits(spec)
    )


def _additional_gids(spec: Spec) -> bool:
    return any(edits.additional_gids for edits in _edits(spec))


def _intel_rdt(spec: Spec) -> bool:
    return any(edits.intel_rdt is not None for edits in _edits(spec))


def _annotations(spec: Spec) -> bool:
    return bool(spec.annotations) or any(device.annotations for device in spec.devices)


def _dotted_class(spec: Spec) -> bool:
    return "." in spec.kind.partition("/")[2]


def _digit_first(spec: Spec) -> bool:
    return any("0" <= device.name[:1] <= "9" for device in spec.devices)


def _host_path(spec: Spec) -> bool:
    return any(node.host_path for edits in _edits(spec) for node in edits.device_nodes)


def _mount_type(spec: Spec) -> bool:
    return any(mount.type for edits in _edits(spec) for mount in edits.mounts)


_NEEDS: tuple[tuple[str, str, Callable[[Spec], bool]], ...] = (
    ("1.1.0", "netDevices", _net_devices),
    ("1.1.0", "schemata or enableMonitoring of intelRdt", _monitoring),
    ("0.7.0", "additionalGids", _additional_gids),
    ("0.7.0", "intelRdt", _intel_rdt),
    ("0.6.0", "annotations", _annotations),
    ("0.6.0", "a dot in the class", _dotted_class),
    ("0.5.0", "a device name that starts with a digit", _digit_first),
    ("0.5.0", "hostPath of a device node", _host_path),
    ("0.4.0", "type of a mount", _mount_type),
)
"""Newest first. 0.8.0 and 1.0.0 changed the library, not the documents: nothing needs them."""
