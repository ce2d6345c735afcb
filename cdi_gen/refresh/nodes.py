# SPDX-License-Identifier: Apache-2.0
"""Creates device nodes, and links in ``/dev/char``, before a refresh examines the host."""

from __future__ import annotations

from cdi_base.findings import Finding
from cdi_gen.host.where import roots
from cdi_gen.refresh.settings import Layout, Settings
from cdi_gen.system import dev_char, device_nodes


def make(settings: Settings, layout: Layout) -> tuple[list[str], list[Finding]]:
    """Make what the settings ask for; return what was changed, and what could not be made.

    Raises:
        NoDriverError: the kernel module is not loaded.
        UnsafeError: users other than root can change a directory.
        CdiGenError: a directory of the layout does not exist, or the kernel refuses.
    """
    directories = roots(layout.where())
    changes: list[str] = []
    findings: list[Finding] = []
    if settings.device_nodes:
        result = device_nodes.create(directories.host, directories.dev)
        changes += [
            f"the device node {change.path} is created"
            for change in result.changes
            if change.state in {"absent", "stale"} and change.finding is None
        ]
        findings += result.findings
        findings += [change.finding for change in result.changes if change.finding]
    if settings.dev_char_symlinks:
        nodes = dev_char.existing_nodes(directories.dev)
        for link in dev_char.link(
            nodes, directories.host, directories.dev, directory=dev_char.DEFAULT
        ):
            if link.finding is not None:
                findings.append(link.finding)
            elif link.action != "kept":
                changes.append(f"the link {dev_char.DEFAULT}/{link.name} is {link.action}")
    return changes, findings
