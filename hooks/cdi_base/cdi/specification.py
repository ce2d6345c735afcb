# SPDX-License-Identifier: Apache-2.0
"""What the standard's library takes for a CDI spec, and which of its releases do.

The shim and the prestart hook leave out what every engine leaves out; the library tells a person
what is wrong, with these rules and more of its own, of what runtimes stumble over.
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


def judge(document: object, of_text: Sequence[Fault] = ()) -> tuple[Document, list[Fault]]:
    """The document as engines read it, and all that makes releases of the library refuse it.

    Args:
        document: what JSON or YAML hold.
        of_text: what is wrong with the text that it was read from.

    Raises:
        TooMuchError: there is far too much, of content or of faults.
    """
    read, faults = fields.read(document)
    faults = [*of_text, *faults]
    claim = _of_version(read)
    known = {fault.path for fault in faults if fault.refused_by == EVERY}
    # What could not be read is not there, and not to be missed again.
    within = {path[:end] for path in known for end, c in enumerate(path) if c in ".["}
    faults += [fault for fault in _of_spec(read) if fault.path not in known | within]
    if claim is None:
        return read, faults
    faults = [fault for fault in faults if fault.remains_beside(claim)]
    return read, faults if claim.path in known else [*faults, claim]


def ignored_by(faults: Iterable[Fault]) -> frozenset[str]:
    """The releases that ignore the whole file."""
    found = NONE
    for fault in faults:
        found |= fault.refused_by
    return found


def _of_version(spec: Document) -> Fault | None:
    where, said = ".cdiVersion", _text(spec, "cdiVersion")
    claimed = said.removeprefix("v")
    place = versions.place(claimed)
    if place < 0:
        known = ", ".join(versions.KNOWN)
        return Fault(where, f"{said!r} is no version of CDI; there are {known}", code="CDG-S301")
    needs = versions.needs(spec)
    needed = needs[0][0] if needs else versions.EARLIEST
    if place < versions.place(needed):
        why = [what for version, what in needs if version == needed]
        reason = f" for {' and '.join(why)}" if why else ", the earliest that engines still read"
        return Fault(where, f"claims {claimed}, but needs {needed}{reason}", code="CDG-S302")
    refused = {each for each in LIBRARIES if versions.place(newest_cdi_version(each)) < place}
    if not refused:
        return None
    lower = f"; {needed} would do" if needed != claimed else ""
    return Fault(
        where, f"claims {claimed}{lower}", frozenset(refused), slight=True, code="CDG-S303"
    )


def _of_spec(spec: Document) -> Iterator[Fault]:
    kind = _text(spec, "kind")
    message = names.fault_of_kind(kind)
    if message:
        yield Fault(".kind", message, code="CDG-S201")
    elif any(len(part) == 1 for part in kind.split("/")):
        # All of them do up to 1.1.0: "slice bounds out of range [1:0]".
        message = f"{kind!r} has a vendor or a class of a single letter"
        consequence = "engines with a CDI library before 1.1.1 crash over the file"
        yield Fault(".kind", message, before("1.1.1"), consequence=consequence, code="CDG-S202")
    devices = _objects(spec, "devices")
    if not devices:
        yield Fault(".devices", "there is no device", since("1.0.1"), code="CDG-S205")
    first: dict[str, int] = {}
    for index, device in enumerate(devices):
        path, name = f".devices[{index}]", _text(device, "name")
        message = names.fault_of_device(name)
        if message:
            yield Fault(f"{path}.name", message, code="CDG-S203")
        edits = _object(device, "containerEdits")
        if not any(edits.get(key) for key in edits) and "intelRdt" not in edits:
            message = "is empty: a device has to change something"
            yield Fault(f"{path}.containerEdits", message, code="CDG-S206")
        yield from _of_edits(f"{path}.containerEdits", edits)
        if name in first:
            message = f"{name!r} is already the name of .devices[{first[name]}]"
            yield Fault(f"{path}.name", message, code="CDG-S204")
        first.setdefault(name, index)
    yield from _of_edits(".containerEdits", _object(spec, "containerEdits"))


def _of_edits(path: str, edits: Document) -> Iterator[Fault]:
    yield from _of_env(f"{path}.env", edits)
    for index, node in enumerate(_objects(edits, "deviceNodes")):
        yield from _of_node(f"{path}.deviceNodes[{index}]", node)
    yield from _of_net_devices(f"{path}.netDevices", _objects(edits, "netDevices"))
    for index, hook in enumerate(_objects(edits, "hooks")):
        yield from _of_hook(f"{path}.hooks[{index}]", hook)
    for index, mount in enumerate(_objects(edits, "mounts")):
        for key in ("containerPath", "hostPath"):
            if not mount.get(key):
                yield Fault(f"{path}.mounts[{index}].{key}", "is empty", code="CDG-S403")
    yield from _of_intel_rdt(f"{path}.intelRdt", _object(edits, "intelRdt"))


def _of_env(path: str, parent: Document) -> Iterator[Fault]:
    for index, variable in enumerate(_texts(parent, "env")):
        if variable.find("=") <= 0:
            yield Fault(
                f"{path}[{index}]", f"{variable!r} is not of the form NAME=value", code="CDG-S401"
            )


def _of_node(path: str, node: Document) -> Iterator[Fault]:
    if not node.get("path"):
        yield Fault(f"{path}.path", "is empty", code="CDG-S403")
    type_, permissions = _text(node, "type"), _text(node, "permissions")
    if type_ not in _NODE_TYPES:
        yield Fault(f"{path}.type", f"{type_!r} is none of b, c, u and p", code="CDG-S404")
    if permissions == "none":
        yield Fault(
            f"{path}.permissions", "'none' is new", before("1.1.1"), slight=True, code="CDG-S404"
        )
    elif permissions.strip("rwm"):
        message = f"{permissions!r} is neither 'none' nor made of the letters r, w and m"
        yield Fault(f"{path}.permissions", message, code="CDG-S404")


def _of_net_devices(path: str, devices: list[Document]) -> Iterator[Fault]:
    for key in ("hostInterfaceName", "name"):
        values = [_text(device, key) for device in devices]
        for index, value in enumerate(values):
            if not value:
                yield Fault(f"{path}[{index}].{key}", "is empty", code="CDG-S407")
            elif values.index(value) < index:
                message = f"{value!r} is already in netDevices[{values.index(value)}]"
                yield Fault(f"{path}[{index}].{key}", message, code="CDG-S407")


def _of_hook(path: str, hook: Document) -> Iterator[Fault]:
    name = _text(hook, "hookName")
    if name not in HOOK_NAMES:
        yield Fault(
            f"{path}.hookName", f"{name!r} is none of {', '.join(HOOK_NAMES)}", code="CDG-S408"
        )
    if not hook.get("path"):
        yield Fault(f"{path}.path", "is empty", code="CDG-S403")
    yield from _of_env(f"{path}.env", hook)


def _of_intel_rdt(path: str, intel_rdt: Document) -> Iterator[Fault]:
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
