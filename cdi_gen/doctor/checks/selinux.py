# SPDX-License-Identifier: Apache-2.0
"""Whether SELinux lets containers use the driver's device nodes, and engines read the specs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from shlex import quote

from cdi_base.findings import Finding
from cdi_gen.doctor import installed_specs
from cdi_gen.doctor.check import Check, NotApplicable, Unseen
from cdi_gen.doctor.host import Host

DIRECTORY = "/sys/fs/selinux"
BOOLEANS = ("container_use_devices", "container_use_xserver_devices")
"""The booleans of container-selinux; one is enough for the nodes, whose type is
``xserver_misc_device_t``."""
CONFINING = frozenset({"podman", "crio", "buildah"})
"""Engines that confine containers by default; Docker and containerd do so if configured."""
WRONG_TYPES = ("unlabeled_t", "user_home_t", "admin_home_t", "user_tmp_t", "tmp_t", "default_t")
"""Types of files that were moved and not created: confined engines may not read them."""


def examine_devices(host: Host) -> Iterator[Finding]:
    """Yield that no boolean lets containers use the nodes."""
    if not _is_enforcing(host):
        yield Finding(
            "CDG-A222", "info", "SELinux is permissive: it denies nothing", subject="selinux"
        )
        return
    states = {name: host.text(f"{DIRECTORY}/booleans/{name}", 16) for name in BOOLEANS}
    if any((state or "").startswith("1") for state in states.values()):
        return
    engines = sorted({status.engine for status in host.engines} & CONFINING)
    denials = _denials(host)
    which = f" ({', '.join(engines)})" if engines else ""
    seen = f"; the kernel's log has {denials} denials for NVIDIA's nodes" if denials else ""
    is_fault = bool(engines or denials)
    yield Finding(
        "CDG-A222",
        "error" if is_fault else "warning",
        "SELinux is enforcing, and does not let containers use device nodes"
        f"{which}{seen}: NVML reports "
        '"Insufficient Permissions"',
        subject="selinux",
        fix=f"sudo setsebool -P {BOOLEANS[0]} on  # or for one container: podman run "
        "--security-opt label=disable",
    )


def _is_enforcing(host: Host) -> bool:
    """Whether SELinux is enforcing.

    Raises:
        NotApplicable: SELinux is not enabled.
    """
    state = host.text(f"{DIRECTORY}/enforce", 16)
    if state is None:
        raise NotApplicable("SELinux is not enabled")
    return state.strip() == "1"


def _denials(host: Host) -> int:
    try:
        lines = host.kernel_log
    except Unseen:
        return 0
    return sum(
        "avc:  denied" in line.text and ("nvidia" in line.text or "xserver_misc" in line.text)
        for line in lines
    )


def examine_labels(host: Host) -> Iterator[Finding]:
    """Yield the spec files whose label engines may not read."""
    _is_enforcing(host)
    paths = [file.path for file in installed_specs.files_of_nvidia(host)]
    if not paths:
        raise NotApplicable("no spec of NVIDIA devices is installed")
    for path in paths:
        label = _label(host, path)
        if label and label.split(":")[2:3] and label.split(":")[2] in WRONG_TYPES:
            yield Finding(
                "CDG-A221",
                "error",
                f"{path} has the SELinux label {label}: confined engines cannot read the file",
                subject=path,
                fix=f"sudo restorecon -v {quote(path)}",
            )


def _label(host: Host, path: str) -> str | None:
    """Return the label of a file; None if it has none."""

    def read() -> str | None:
        try:
            value = os.getxattr(host.root.open_path(host.root.resolve(path)), "security.selinux")
        except OSError:
            return None
        return value.decode("ascii", "replace").rstrip("\0")

    label: str | None = host.fact("SELinux label", read, path)
    return label


CHECKS = (
    Check("selinux", "security", "SELinux lets containers use the GPUs", examine_devices),
    Check(
        "spec-labels",
        "security",
        "the specs have the SELinux label of their directory",
        examine_labels,
    ),
)
