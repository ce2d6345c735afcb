# SPDX-License-Identifier: Apache-2.0
"""The versions of the CDI standard, and the lowest that a document may claim.

Source: the standard's SPEC.md ("Version") and its Go library's `MinimumRequiredVersion`. 0.8.0
and 1.0.0 changed the library, not the documents: nothing needs them.
"""

from __future__ import annotations

from cdi_base import versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Document = dict[str, object]

KNOWN = (
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
"""The version of a spec without later fields; CDI's library rejects older ones since 0.4.0."""

NET_DEVICES = ("1.1.0", "netDevices")
MONITORING = ("1.1.0", "schemata or enableMonitoring of intelRdt")
ADDITIONAL_GIDS = ("0.7.0", "additionalGids")
INTEL_RDT = ("0.7.0", "intelRdt")
ANNOTATIONS = ("0.6.0", "annotations")
DOTTED_CLASS = ("0.6.0", "a dot in the class")
DIGIT_FIRST = ("0.5.0", "a device name that starts with a digit")
HOST_PATH = ("0.5.0", "hostPath of a device node")
MOUNT_TYPE = ("0.4.0", "type of a mount")

_NEWEST_FIRST = (
    NET_DEVICES,
    MONITORING,
    ADDITIONAL_GIDS,
    INTEL_RDT,
    ANNOTATIONS,
    DOTTED_CLASS,
    DIGIT_FIRST,
    HOST_PATH,
    MOUNT_TYPE,
)


def needs(document: Document) -> list[tuple[str, str]]:
    """Return the features of a document with the version that each needs, newest first.

    Args:
        document: a result of `specification.judge`, or a spec as it is written.
    """
    features = set(_of_document(document))
    return [feature for feature in _NEWEST_FIRST if feature in features]


def index_of(version: str) -> int:
    """Return the index of a version among the known ones; -1 if it is not known."""
    return KNOWN.index(version) if version in KNOWN else -1


def _of_document(document: Document) -> Iterator[tuple[str, str]]:
    if document.get("annotations"):
        yield ANNOTATIONS
    if "." in str(document.get("kind")).partition("/")[2]:
        yield DOTTED_CLASS
    yield from _of_edits(document)
    for device in _objects(document.get("devices")):
        if device.get("annotations"):
            yield ANNOTATIONS
        if "0" <= str(device.get("name"))[:1] <= "9":
            yield DIGIT_FIRST
        yield from _of_edits(device)


def _of_edits(parent: Document) -> Iterator[tuple[str, str]]:
    edits = parent.get("containerEdits")
    if not isinstance(edits, dict):
        return
    if edits.get("netDevices"):
        yield NET_DEVICES
    intel_rdt = edits.get("intelRdt")
    if isinstance(intel_rdt, dict):
        yield INTEL_RDT
        # To the library an empty list is present, and needs 1.1.0.
        if intel_rdt.get("schemata") is not None or intel_rdt.get("enableMonitoring"):
            yield MONITORING
    if edits.get("additionalGids"):
        yield ADDITIONAL_GIDS
    if any(node.get("hostPath") for node in _objects(edits.get("deviceNodes"))):
        yield HOST_PATH
    if any(mount.get("type") for mount in _objects(edits.get("mounts"))):
        yield MOUNT_TYPE


def _objects(value: object) -> Iterator[Document]:
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item


def compare(one: str, other: str) -> int:
    """Return a number below, equal to or above 0 as `one` is older, the same or newer.

    Raises:
        ValueError: one of them is not `major.minor.patch`.
    """
    a, b = _numbers(one), _numbers(other)
    return (a > b) - (a < b)


def _numbers(version: str) -> versions.Version:
    numbers = versions.parse(version)
    if numbers is None or version.count(".") != 2:
        raise ValueError(f"{version!r} is not a version of the form 0.5.0")
    return numbers
