# SPDX-License-Identifier: Apache-2.0
"""The specs of a node: that of the management containers, and that of the shim's GPUs."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import NamedTuple

from cdi_base import files, trust
from cdi_base.findings import Finding
from cdi_gen import store
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Spec
from cdi_gen.generate import DEFAULTS, generate, management
from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes.node import created_directories
from cdi_gen.kubernetes.node.settings import GPU_KIND, NodeSettings
from cdi_gen.paths import join

PREFIX = "setup-node."
REPLACED = ".cdi-gen-replaced"
"""The ending of a file that defines the same devices as ours; engines read .json and .yaml only."""

MAX_BYTES = 16 << 20


class NodeSpec(NamedTuple):
    """A spec and the name of its file."""

    name: str
    spec: Spec


def node_specs(inventory: Inventory, settings: NodeSettings) -> tuple[NodeSpec, ...]:
    """Return the management spec, if the settings ask for it, and the spec of the GPUs.

    Raises:
        CdiGenError: the host has no usable driver or GPU, see `generate`.
    """
    options = DEFAULTS._replace(hooks=settings.hooks)
    specs = []
    if settings.cdi:
        vendor, _, class_ = settings.cdi_kind.partition("/")
        named = options._replace(vendor=vendor, class_=class_)
        specs.append(management.spec(inventory, named))
    # The shim takes single GPUs from it, also where the management spec is its default.
    specs.append(generate(inventory, options))
    return tuple(NodeSpec(file_name(spec.kind), spec) for spec in specs)


def file_name(kind: str) -> str:
    """Return the name of our file for a kind."""
    return f"{PREFIX}{kind.replace('/', '-')}.json"


def write_specs(
    specs: tuple[NodeSpec, ...], settings: NodeSettings, root: str | None
) -> list[dict[str, str]]:
    """Write the specs; return the fields of findings. Runs in the host's root.

    A file of NVIDIA's toolkit with the management devices is renamed: engines reject a device that
    two files of a directory define. For another file with the GPUs ours is left out.

    Args:
        specs: the specs.
        settings: the settings.
        root: the directory of the installation, where new directories are noted.

    Raises:
        UnsafeError, CdiGenError: see `store.write`.
    """
    directory = settings.cdi_directory
    # The engine reads any directory that is configured, and runs the hooks of its specs as root.
    read_as_root = {*store.READ_AS_ROOT, directory}
    store.check_directory(directory, read_as_root)
    findings = []
    if root is not None:
        created_directories.note(root, [os.path.realpath(directory)])
    for name, spec in specs:
        path = join(directory, name)
        others = [other for other in _defining(spec.kind, directory) if other != path]
        if others and spec.kind == GPU_KIND:
            findings.append(
                Finding(
                    "CDG-N412",
                    "info",
                    f"{others[0]} defines {spec.kind} already; {path} is not written",
                    subject=path,
                )
            )
            with suppress(FileNotFoundError):
                os.unlink(path)
            continue
        for other in others:
            os.rename(other, other + REPLACED)
            message = f"{other} is renamed to {other}{REPLACED}: {path} defines {spec.kind}"
            findings.append(Finding("CDG-N413", "warning", message, subject=other))
        store.write(wire.dump(spec), path, spec=spec, read_as_root=read_as_root)
    return [finding.fields() for finding in findings]


def remove_specs(settings: NodeSettings) -> bool:
    """Remove the specs, and give replaced files their names again.

    Returns:
        Whether there was a spec.
    """
    directory = settings.cdi_directory
    has_specs = False
    for kind in (settings.cdi_kind, GPU_KIND):
        with suppress(FileNotFoundError):
            os.unlink(join(directory, file_name(kind)))
            has_specs = True
    if os.path.isdir(directory) and trust.fault(directory) is not None:
        return has_specs  # another user may have put there what has our ending
    for name in _names(directory):
        if name.endswith(REPLACED):
            path = join(directory, name.removesuffix(REPLACED))
            if not os.path.lexists(path):
                os.rename(path + REPLACED, path)
    return has_specs


def _defining(kind: str, directory: str) -> list[str]:
    """Return the spec files of a directory that define devices of a kind."""
    pattern = re.compile(
        rb"""^[\s{]*["']?kind["']?\s*:\s*["']?"""
        + re.escape(kind).encode()
        + rb"""["']?\s*(?:,|$)""",
        re.MULTILINE,
    )
    paths = []
    for name in _names(directory):
        if not name.endswith((".json", ".yaml")):
            continue
        path = join(directory, name)
        try:
            text = files.read(path, MAX_BYTES, follow=True)
        except OSError:
            continue
        # A JSON document may be a single line.
        if pattern.search(text) or pattern.search(text.replace(b",", b",\n").replace(b"{", b"{\n")):
            paths.append(path)
    return paths


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
