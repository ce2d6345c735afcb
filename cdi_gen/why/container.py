# SPDX-License-Identifier: Apache-2.0
"""Says what a container has of the GPUs, and why they do not work in it; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cdi_base.findings import Finding
from cdi_gen.containers.examination import Examination
from cdi_gen.containers.model import REFUSED
from cdi_gen.why import container_advice, container_libraries, container_nodes
from cdi_gen.why.container_facts import (
    Facts,
    Host,
    configured_mounts,
    configured_nodes,
    facts,
    hooks,
    host_devices,
    is_driver_node,
    prestart_hook,
)
from cdi_gen.why.container_libraries import DriverFiles, driver_files


class NodeRow(NamedTuple):
    """A device node of the driver, as the container has it."""

    path: str
    numbers: str
    state: str
    """``allowed``, ``refused``, ``unrestricted``, ``unknown``, ``missing``, ``configured``."""


class Answer(NamedTuple):
    """What a container has, and what is wrong with it."""

    facts: Facts
    nodes: tuple[NodeRow, ...]
    files: DriverFiles
    nvidia_smi: str
    """What nvidia-smi in the container would say; empty: not known."""
    findings: tuple[Finding, ...]

    @property
    def is_faulty(self) -> bool:
        """Whether the GPUs do not work, or the container does not start."""
        return any(finding.severity == "error" for finding in self.findings)


def answer(examination: Examination, host: Host) -> Answer:
    """Return what a container has, and what is wrong with it."""
    known = facts(examination, host)
    found: list[Finding] = []
    if examination.container is not None:
        found += _not_answered(known)
        found += container_nodes.findings(known)
        found += container_libraries.findings(known)
    else:
        found += _not_startable(known)
    rows = tuple(_rows(known))
    return Answer(known, rows, driver_files(known), _nvidia_smi(known, rows), tuple(found))


def _rows(known: Facts) -> Iterator[NodeRow]:
    numbers = {(one.major, one.minor) for one in host_devices(known.host.inventory).values()}
    shown = set()
    for node in known.nodes:
        if is_driver_node(node.path) or (node.major, node.minor) in numbers:
            shown.add(node.path)
            yield NodeRow(node.path, f"{node.major}:{node.minor}", node.access)
    state = "missing" if known.examination.container else "configured"
    for one in configured_nodes(known.examination.configuration):
        if one.path not in shown and is_driver_node(one.path):
            shown.add(one.path)
            yield NodeRow(one.path, f"{one.major}:{one.minor}", state)


def _nvidia_smi(known: Facts, rows: tuple[NodeRow, ...]) -> str:
    """Return what nvidia-smi would say, in the order in which it finds out."""
    examination = known.examination
    programs = examination.programs
    if examination.container is None or programs is None or not rows:
        return ""
    if programs.nvidia_smi is None:
        return "nvidia-smi: command not found"
    if programs.libraries["libnvidia-ml.so.1"] is None:
        return "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system"
    states = {row.path: row.state for row in rows}
    if states.get("/dev/nvidiactl", "missing") in {REFUSED, "missing"}:
        return container_nodes.UNKNOWN_ERROR
    if any(finding.code == "CDG-Y222" for finding in container_libraries.findings(known)):
        return container_libraries.MISMATCH
    gpus = [path for path in states if container_nodes.GPU_NODE.fullmatch(path)]
    usable = [path for path in gpus if states[path] not in {REFUSED, "missing"}]
    return f"lists {len(usable)} GPUs" if usable else "No devices were found"


def _not_answered(known: Facts) -> Iterator[Finding]:
    """A request by NVIDIA_VISIBLE_DEVICES that no program answered."""
    value = known.requested_by_variable
    if not value or any(is_driver_node(node.path) for node in known.nodes):
        return
    if configured_nodes(known.examination.configuration) and known.names:
        return
    hook = prestart_hook(known.examination.configuration)
    reason = f"{hook} ran and added nothing" if hook else "neither a runtime shim nor a hook saw it"
    yield Finding(
        "CDG-Y225",
        "error",
        f"NVIDIA_VISIBLE_DEVICES={value} asks for GPUs, and the container has none: {reason}",
        subject="NVIDIA_VISIBLE_DEVICES",
        fix=container_advice.recreate(known),
    )


def _not_startable(known: Facts) -> Iterator[Finding]:
    """What the configuration of a container that does not run needs, and the host lacks."""
    configuration = known.examination.configuration
    is_there = known.host.is_there
    absent = [
        source for source, _ in configured_mounts(configuration) if _is_lost(source, is_there)
    ]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        yield _lost(known, "mounts", f"{absent[0]}{more}", absent[0])
    programs = [path for _, path, _ in hooks(configuration) if _is_lost(path, is_there)]
    if programs:
        yield _lost(known, "starts the hook", programs[0], programs[0])
    devices = host_devices(known.host.inventory)
    for node in configured_nodes(configuration):
        device = devices.get(node.path)
        if device and (node.major, node.minor) != (device.major, device.minor):
            yield Finding(
                "CDG-Y212",
                "error",
                f"the container's config.json has {node.path} as {node.major}:{node.minor}, and it "
                f"is {device.major}:{device.minor} on the host now",
                subject=node.path,
                fix=f"sudo cdi-gen refresh && {container_advice.create_again(known)}",
            )


def _is_lost(path: str, is_there: Callable[[str], bool]) -> bool:
    return path.startswith("/") and not is_there(path)


def _lost(known: Facts, verb: str, what: str, subject: str) -> Finding:
    return Finding(
        "CDG-Y227",
        "error",
        f"the container's config.json {verb} {what}, which the host does not have: it does not "
        "start; perhaps the driver was updated after it was created",
        subject=subject,
        fix=f"sudo cdi-gen refresh && {container_advice.create_again(known)}",
    )
