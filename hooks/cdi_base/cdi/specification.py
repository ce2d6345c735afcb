# SPDX-License-Identifier: Apache-2.0
"""Checks a CDI spec as the releases of the standard's Go library do.

The shim and the prestart hook ignore the specs that all engines ignore. The library reports faults
to users, by these rules and by further ones for faults that only runtimes reject.
"""

from __future__ import annotations

from cdi_base.cdi import fields, names, versions
from cdi_base.cdi.faults import Fault, TooMuchError
from cdi_base.cdi.injection import HOOK_NAMES
from cdi_base.cdi.libraries import EVERY, LIBRARIES, NONE, before, newest_cdi_version, since

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Document = dict[str, object]

__all__ = ["EVERY", "LIBRARIES", "Fault", "TooMuchError", "ignored_by", "judge"]

_NODE_TYPES = frozenset({"", "b", "c", "u", "p"})
_LONGEST_CLOS_ID = 4095


def judge(document: object, text_faults: Sequence[Fault] = ()) -> tuple[Document, list[Fault]]:
    """Return the document as engines read it, and the faults for which releases reject it.

    Args:
        document: the value of a JSON or YAML text.
        text_faults: faults of the text that the document was read from.

    Raises:
        TooMuchError: there are too many values or faults.
    """
    read, faults = fields.read(document)
    faults = [*text_faults, *faults]
    version_fault = _version_fault(read)
    faulty_paths = {fault.path for fault in faults if fault.refused_by == EVERY}
    # A field that could not be read is absent now, which is not a second fault.
    parents = {path[:end] for path in faulty_paths for end, c in enumerate(path) if c in ".["}
    faults += [fault for fault in _spec_faults(read) if fault.path not in faulty_paths | parents]
    if version_fault is None:
        return read, faults
    faults = [fault for fault in faults if fault.remains_beside(version_fault)]
    return read, faults if version_fault.path in faulty_paths else [*faults, version_fault]


def ignored_by(faults: Iterable[Fault]) -> frozenset[str]:
    """Return the releases that ignore the whole file."""
    releases = NONE
    for fault in faults:
        releases |= fault.refused_by
    return releases


def _version_fault(spec: Document) -> Fault | None:
    path, text = ".cdiVersion", _text(spec, "cdiVersion")
    claimed = text.removeprefix("v")
    index = versions.index_of(claimed)
    if index < 0:
        known = ", ".join(versions.KNOWN)
        message = f"{text!r} is not a version of CDI; the versions are {known}"
        return Fault(path, message, code="CDG-S301")
    needs = versions.needs(spec)
    needed = needs[0][0] if needs else versions.EARLIEST
    if index < versions.index_of(needed):
        features = [feature for version, feature in needs if version == needed]
        reason = (
            f" for {' and '.join(features)}"
            if features
            else ", the earliest that engines still read"
        )
        return Fault(path, f"claims {claimed}, but needs {needed}{reason}", code="CDG-S302")
    refused_by = {
        release for release in LIBRARIES if versions.index_of(newest_cdi_version(release)) < index
    }
    if not refused_by:
        return None
    lower = f"; {needed} is enough" if needed != claimed else ""
    return Fault(
        path, f"claims {claimed}{lower}", frozenset(refused_by), slight=True, code="CDG-S303"
    )


def _spec_faults(spec: Document) -> Iterator[Fault]:
    kind = _text(spec, "kind")
    message = names.fault_of_kind(kind)
    if message:
        yield Fault(".kind", message, code="CDG-S201")
    elif any(len(part) == 1 for part in kind.split("/")):
        # Releases up to 1.1.0 panic: "slice bounds out of range [1:0]".
        message = f"{kind!r} has a vendor or a class of a single letter"
        consequence = "engines with a CDI library before 1.1.1 crash when they read the file"
        yield Fault(".kind", message, before("1.1.1"), consequence=consequence, code="CDG-S202")
    devices = _objects(spec, "devices")
    if not devices:
        yield Fault(".devices", "the spec has no device", since("1.0.1"), code="CDG-S205")
    first_index: dict[str, int] = {}
    for index, device in enumerate(devices):
        path, name = f".devices[{index}]", _text(device, "name")
        message = names.fault_of_device(name)
        if message:
            yield Fault(f"{path}.name", message, code="CDG-S203")
        edits = _object(device, "containerEdits")
        if not any(edits.get(key) for key in edits) and "intelRdt" not in edits:
            message = "is empty: a device must have container edits"
            yield Fault(f"{path}.containerEdits", message, code="CDG-S206")
        yield from _edits_faults(f"{path}.containerEdits", edits)
        if name in first_index:
            message = f"{name!r} is already the name of .devices[{first_index[name]}]"
            yield Fault(f"{path}.name", message, code="CDG-S204")
        first_index.setdefault(name, index)
    yield from _edits_faults(".containerEdits", _object(spec, "containerEdits"))


def _edits_faults(path: str, edits: Document) -> Iterator[Fault]:
    yield from _env_faults(f"{path}.env", edits)
    for index, node in enumerate(_objects(edits, "deviceNodes")):
        yield from _node_faults(f"{path}.deviceNodes[{index}]", node)
    yield from _net_device_faults(f"{path}.netDevices", _objects(edits, "netDevices"))
    for index, hook in enumerate(_objects(edits, "hooks")):
        yield from _hook_faults(f"{path}.hooks[{index}]", hook)
    for index, mount in enumerate(_objects(edits, "mounts")):
        for key in ("containerPath", "hostPath"):
            if not mount.get(key):
                yield Fault(f"{path}.mounts[{index}].{key}", "is empty", code="CDG-S403")
    yield from _intel_rdt_faults(f"{path}.intelRdt", _object(edits, "intelRdt"))


def _env_faults(path: str, parent: Document) -> Iterator[Fault]:
    for index, variable in enumerate(_texts(parent, "env")):
        if variable.find("=") <= 0:
            yield Fault(
                f"{path}[{index}]", f"{variable!r} is not of the form NAME=value", code="CDG-S401"
            )


def _node_faults(path: str, node: Document) -> Iterator[Fault]:
    if not node.get("path"):
        yield Fault(f"{path}.path", "is empty", code="CDG-S403")
    type_, permissions = _text(node, "type"), _text(node, "permissions")
    if type_ not in _NODE_TYPES:
        yield Fault(f"{path}.type", f"{type_!r} is not one of b, c, u and p", code="CDG-S404")
    if permissions == "none":
        yield Fault(
            f"{path}.permissions",
            "older CDI libraries reject 'none'",
            before("1.1.1"),
            slight=True,
            code="CDG-S404",
        )
    elif permissions.strip("rwm"):
        message = f"{permissions!r} is neither 'none' nor a combination of the letters r, w and m"
        yield Fault(f"{path}.permissions", message, code="CDG-S404")


def _net_device_faults(path: str, devices: list[Document]) -> Iterator[Fault]:
    for key in ("hostInterfaceName", "name"):
        values = [_text(device, key) for device in devices]
        for index, value in enumerate(values):
            if not value:
                yield Fault(f"{path}[{index}].{key}", "is empty", code="CDG-S407")
            elif values.index(value) < index:
                message = f"{value!r} is already in netDevices[{values.index(value)}]"
                yield Fault(f"{path}[{index}].{key}", message, code="CDG-S407")


def _hook_faults(path: str, hook: Document) -> Iterator[Fault]:
    name = _text(hook, "hookName")
    if name not in HOOK_NAMES:
        yield Fault(
            f"{path}.hookName", f"{name!r} is not one of {', '.join(HOOK_NAMES)}", code="CDG-S408"
        )
    if not hook.get("path"):
        yield Fault(f"{path}.path", "is empty", code="CDG-S403")
    yield from _env_faults(f"{path}.env", hook)


def _intel_rdt_faults(path: str, intel_rdt: Document) -> Iterator[Fault]:
    clos = _text(intel_rdt, "closID")
    message = f"{clos[:80]!r} cannot be the name of a file"
    if clos == "/":
        yield Fault(f"{path}.closID", message, before("1.1.0"), code="CDG-S414")
    elif (
        len(clos.encode("utf-8", "replace")) > _LONGEST_CLOS_ID
        or clos in {".", ".."}
        or "/" in clos
        or "\n" in clos
    ):
        yield Fault(f"{path}.closID", message, code="CDG-S414")


def _text(parent: Document, key: str) -> str:
    value = parent.get(key)
    return value if isinstance(value, str) else ""


def _texts(parent: Document, key: str) -> list[str]:
    value = parent.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _object(parent: Document, key: str) -> Document:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _objects(parent: Document, key: str) -> list[Document]:
    value = parent.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
