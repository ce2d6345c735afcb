# SPDX-License-Identifier: Apache-2.0
"""The driver's device nodes: present, with the kernel's numbers; and their modes and owners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.engine_statuses import finding_of
from cdi_gen.doctor.host import Host
from cdi_gen.system import dev_char, device_nodes
from cdi_gen.system.driver_nodes import DriverNode, KernelFacts

CREATE = "sudo cdi-gen system create-device-nodes"
OF_MIG = "/nvidia-caps/"
NEEDED = ("/nvidiactl", "/nvidia-uvm")
EVERYBODY = 0o006
"""Read and write permission for all users."""


class State(NamedTuple):
    """A node, and the state in which it is."""

    path: str
    state: str
    """``present``, ``absent``, ``stale`` or ``occupied``."""
    numbers: str


def states(host: Host) -> tuple[tuple[State, ...], tuple[Finding, ...]]:
    """Return the nodes that the driver has by the facts of the kernel, and what is missing."""

    def compute() -> Any:
        result = device_nodes.create(host.roots.host, host.roots.dev, dry_run=True)
        findings = [*result.findings]
        findings += [change.finding for change in result.changes if change.finding]
        return [
            [[change.path, change.state, change.node.numbers] for change in result.changes],
            [finding.fields() for finding in findings],
        ]

    nodes, findings = host.fact("device nodes", compute)
    return tuple(State(*fields) for fields in nodes), tuple(map(finding_of, findings))


def examine_presence(host: Host) -> Iterator[Finding]:
    """Yield the nodes that are missing, and modules without which there are none."""
    nodes, findings = states(host)
    for finding in findings:
        if finding.code == "CDG-H202" and finding.severity == "warning":
            yield Finding(
                finding.code,
                "error",
                f"the kernel module nvidia_uvm is not loaded: CUDA needs {finding.subject}",
                subject=finding.subject,
                fix=f"sudo modprobe nvidia_uvm && {CREATE}",
            )
        elif finding.code in {"CDG-D101", "CDG-D103"}:
            yield finding
    absent = [node.path for node in nodes if node.state == "absent" and OF_MIG not in node.path]
    if host.is_container:
        yield from _missing_in_container(absent)
    elif absent:
        yield missing(absent, "rootless containers that ask for it do not start")


def _missing_in_container(absent: list[str]) -> Iterator[Finding]:
    """Yield the nodes without which CUDA does not work; a container may lack the others."""
    needed = [path for path in absent if path.endswith(NEEDED)]
    if needed:
        yield Finding(
            "CDG-H201",
            "error",
            f"this container has no {' and no '.join(needed)}: CUDA does not work in it",
            subject=needed[0],
            fix="podman run --device nvidia.com/gpu=all IMAGE  # start the container so; on "
            "the host: cdi-gen who",
        )


def missing(paths: list[str], consequence: str) -> Finding:
    """Return the finding of nodes that do not exist."""
    are = "are" if len(paths) > 1 else "is"
    message = f"{', '.join(paths)} {are} missing; {consequence}"
    return Finding("CDG-H201", "error", message, subject=paths[0], fix=CREATE)


def examine_numbers(host: Host) -> Iterator[Finding]:
    """Yield the nodes that have numbers of another boot."""
    for node in states(host)[0]:
        if node.state == "stale":
            yield Finding(
                "CDG-H301",
                "error",
                f"{node.path} has the numbers of another boot; the kernel uses {node.numbers}",
                subject=node.path,
                fix=CREATE,
            )


def examine_modes(host: Host) -> Iterator[Finding]:
    """Yield nodes that ordinary users cannot open."""
    if host.driver_module is None:
        raise NotApplicable("no NVIDIA driver is loaded")
    restricted = []
    group = 0
    for path, mode, uid, gid, expected in host.fact("node modes", lambda: _modes(host)):
        if mode & EVERYBODY == EVERYBODY or (expected and [mode, uid, gid] == expected):
            if mode & EVERYBODY != EVERYBODY and OF_MIG not in path:
                restricted.append(path)
                group = gid
            continue
        if OF_MIG in path:
            continue
        wanted = expected[0] if expected else 0o666
        yield Finding(
            "CDG-A061",
            "warning",
            f"{path} has the mode {mode:04o} and the owner {uid}:{gid}: programs of other users "
            "cannot open it",
            subject=path,
            fix=f"sudo chmod {wanted:04o} {path}  # perhaps of udev: grep -r nvidia /etc/udev",
        )
    if restricted:
        fix = _for_group(group)
        yield Finding(
            "CDG-A065",
            "info",
            f"the driver's parameters (NVreg_DeviceFileMode, UID, GID) restrict "
            f"{', '.join(restricted)}, and undo chmod; for the users of containers: {fix}",
            subject=restricted[0],
            fix=fix,
        )


def _for_group(gid: int) -> str:
    """Return the command that opens nodes to a user whom the driver's parameters keep out."""
    if gid == 0:
        return (
            "echo 'options nvidia NVreg_DeviceFileMode=0666' | sudo tee "
            "/etc/modprobe.d/nvidia-device-files.conf && sudo reboot"
        )
    return (
        f"sudo usermod -aG {gid} USER  # who logs in again; then: podman run --group-add "
        "keep-groups … (with crun)"
    )


def _modes(host: Host) -> list[list[Any]]:
    facts = KernelFacts(host.roots.host)
    nodes: list[DriverNode] = [*facts.control().nodes, *facts.gpus(), *facts.capabilities()]
    expected = {node.path: [node.file_mode, node.uid, node.gid] for node in nodes}
    rows: list[list[Any]] = []
    dev = host.roots.dev
    for node in dev_char.existing_nodes(dev):
        status = dev.lstat(node.path)
        mode = status.st_mode & 0o777
        row = [dev.host_path(node.path), mode, status.st_uid, status.st_gid]
        rows.append([*row, expected.get(node.path)])
    return rows


def examine_links(host: Host) -> Iterator[Finding]:
    """Yield the nodes to which /dev/char has no link, where systemd may need it."""
    if host.driver_module is None:
        raise NotApplicable("no NVIDIA driver is loaded")
    if not host.exists("/run/systemd/system"):
        raise NotApplicable("systemd does not run")

    if host.is_container:
        raise NotApplicable("links in a container have no effect")

    def compute() -> Any:
        roots = host.roots
        nodes = dev_char.existing_nodes(roots.dev)
        links = dev_char.link(nodes, roots.host, roots.dev, dry_run=True)
        return [[link.name, link.target, link.action] for link in links]

    wanted = [
        f"{name} for {target}"
        for name, target, action in sorted(host.fact("dev char", compute))
        if action in {"created", "replaced"}
    ]
    if wanted:
        more = f" and {len(wanted) - 3} more" if len(wanted) > 3 else ""
        yield Finding(
            "CDG-A062",
            "warning",
            f"/dev/char lacks links: {', '.join(wanted[:3])}{more}; systemctl daemon-reload takes "
            "the GPUs away from containers whose cgroup systemd manages",
            subject="/dev/char",
            fix="sudo cdi-gen system create-dev-char-symlinks",
        )


CHECKS = (
    Check("missing-nodes", "device-nodes", "the driver's device nodes exist", examine_presence),
    Check("stale-nodes", "device-nodes", "device nodes have the kernel's numbers", examine_numbers),
    Check("node-modes", "device-nodes", "all users can open the device nodes", examine_modes),
    Check("dev-char-links", "device-nodes", "/dev/char has a link to each node", examine_links),
)
