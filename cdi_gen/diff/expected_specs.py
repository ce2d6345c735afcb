# SPDX-License-Identifier: Apache-2.0
"""Generates the specs of a host in the manner of other specs, so that they can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from cdi_base import HOOK
from cdi_gen.cdi.model import Hook, Spec
from cdi_gen.generate import (
    Options,
    driver_tree,
    generate,
    generate_capabilities,
    management,
    mig_access,
)
from cdi_gen.generate.modes import cap, transports
from cdi_gen.generate.options import FILES, STRATEGIES, TREE
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import HostPath, base_name, beneath

_VERSIONED = re.compile(r"/lib(?:cuda|nvidia-ml)\.so\.\d+\.\d+[\d.]*\Z", re.ASCII)


def in_manner_of(inventory: Inventory, others: Iterable[Spec]) -> tuple[Spec, ...]:
    """Return specs of the host with the kinds of ``others``, with hooks if they have hooks.

    A kind that cdi-gen does not write, or that the host has no device of, has no spec.

    Raises:
        CdiGenError: the host has no usable driver or GPU; see `generate`.
    """
    others = tuple(others)
    inventory = replace(inventory, hook=_hook_program(others))
    has_tree = {spec.kind for spec in others if _has_tree(spec)}
    specs = (
        _spec(kind, inventory, TREE if kind in has_tree else FILES)
        for kind in dict.fromkeys(spec.kind for spec in others)
    )
    return tuple(spec for spec in specs if spec is not None)


def _has_tree(spec: Spec) -> bool:
    """Whether a spec mounts the driver tree."""
    edits = (spec.container_edits, *(device.container_edits for device in spec.devices))
    return any(
        beneath(mount.host_path, driver_tree.ROOT) for edit in edits for mount in edit.mounts
    )


def _hook_program(specs: Iterable[Spec]) -> HookProgram | None:
    """Return the hook program of specs; None if they are for containers without a hook.

    A spec of capabilities has no hook of its own. It is for the hook of the GPUs if it mounts
    libraries under their file names: without a hook, they are mounted under their SONAMEs.
    """
    path = None
    for spec in specs:
        path = path or next((hook.path for hook in _hooks(spec)), None)
        if path is None and any(
            base_name(mount.host_path) == base_name(mount.container_path)
            and _VERSIONED.search(mount.host_path)
            for device in spec.devices
            for mount in device.container_edits.mounts
        ):
            path = "/" + HOOK  # it is not written to such a spec
    return HookProgram(path=HostPath(path)) if path else None


def _hooks(spec: Spec) -> Iterable[Hook]:
    yield from spec.container_edits.hooks
    for device in spec.devices:
        yield from device.container_edits.hooks


def _spec(kind: str, inventory: Inventory, form: str) -> Spec | None:
    vendor, _, class_ = kind.partition("/")
    options = Options(vendor=vendor, class_=class_, names=STRATEGIES, form=form)
    if vendor == management.VENDOR:
        return management.spec(inventory, options)
    if class_ == cap.CapabilitiesMode.class_:
        return generate_capabilities(inventory, options)
    if class_ == mig_access.CLASS:
        return mig_access.spec(inventory, options)
    for mode in transports.MODES:
        if class_ == transports.transport(mode).class_:
            return transports.spec(mode, inventory, options)
    return generate(inventory, options)
