# SPDX-License-Identifier: Apache-2.0
"""Builds ``/run/cdi-gen/runtime.json``: the specs and facts for the shim and the prestart hook.

The runtime shim and the prestart hook are too short-lived to examine the host. The file is a JSON
object:

    key         the fingerprint of the host (``cdi_base.host_fingerprint``) that the file is for
    layout      the directories of the driver, which the fingerprint covers
    watch       the nodes and files that the fingerprint covers; a change makes the file out of date
    specs       the GPUs without capabilities, the capabilities as devices, the special modes
    facts       the facts that NVIDIA_REQUIRE_* is checked against
    converted   the spec files that are not JSON, by path: stamp, and document or problem
    problem     the reason if there are no specs; ``code`` is its code
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from cdi_base import PREPARED_DIRECTORY, PREPARED_NAME, host_fingerprint, trust
from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.files import make_directory, replace_file
from cdi_gen.catalogue import catalogue
from cdi_gen.cdi import wire
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.generate import generate, generate_capabilities, mig_access
from cdi_gen.generate.modes import transports
from cdi_gen.generate.options import ALL, HOOKS, Options
from cdi_gen.generate.requirements import facts
from cdi_gen.host import Where, gather, hook_program
from cdi_gen.host.roots import Root
from cdi_gen.inventory import Inventory
from cdi_gen.programs import watch
from cdi_gen.store import conversions

PATH = f"{PREPARED_DIRECTORY}/{PREPARED_NAME}"

Document = dict[str, Any]


def choices(
    *,
    driver_root: str = "/",
    hook: str | None = None,
    spec_directories: tuple[str, ...] = (),
    disabled_hooks: tuple[str, ...] = (),
    feature_flags: tuple[str, ...] = (),
    layout_options: tuple[str, ...] = (),
) -> host_fingerprint.Choices:
    """Return the choices for `prepare`; the defaults are those of the shim without a config.toml.

    Args:
        driver_root: the directory under which the driver is installed.
        hook: the hook program; None: the installed one.
        spec_directories: the directories whose YAML files are converted; empty: those of engines.
        disabled_hooks: names of hooks, or ``all``.
        feature_flags: only part of the key: no flag of nvidia-ctk changes the specs of cdi-gen.
        layout_options: further options about the layout, as ``name=value``; only part of the key.
    """
    if hook is None:
        program = hook_program.find(Root(), None)
        hook = program.path if program else ""
    directories = spec_directories or SPEC_DIRECTORIES
    return host_fingerprint.Choices(
        driver_root, hook, directories, disabled_hooks, feature_flags, layout_options
    )


def prepare(choices: host_fingerprint.Choices, where: Where | None = None) -> Document:
    """Examine this host and return the document with everything that containers may request.

    Args:
        choices: the choices that the shim compares; `layout` and `watch` are set.
        where: the layout of the host; None: according to the choices.

    Raises:
        CdiGenError: the host has neither a driver and a usable GPU nor a YAML spec file.
    """
    if where is None:
        where = Where(driver_root=choices.driver_root or "/", hook_path=choices.hook or None)
    choices.layout = host_fingerprint.Layout(
        where.driver_root,
        where.dev_root or "",
        (*where.library_search_path, *where.config_search_path),
    )
    choices.watch = watch.of_catalogue(catalogue())
    # The fingerprint is taken first, so that a change in the meantime makes the file out of date.
    key = host_fingerprint.key(choices)
    converted = conversions.of_directories(choices.spec_directories)
    document: Document = {"key": key, "layout": choices.layout.document(), "watch": None}
    document |= {"specs": [], "facts": None, "converted": converted}
    try:
        inventory, document["key"] = _gather(choices, where._replace(requirement_facts=True), key)
        document |= specs_and_facts(inventory, choices.disabled_hooks)
    except CdiGenError as error:
        if not converted:
            raise
        hint = f"; {error.hint}" if error.hint else ""
        document |= {"problem": f"{error.message}{hint}", "code": error.code}
    document["watch"] = choices.watch.document()
    return document


def _gather(
    choices: host_fingerprint.Choices, where: Where, key: list[object]
) -> tuple[Inventory, list[object]]:
    """Return the inventory, and the fingerprint that was taken before the host was read.

    If the inventory has nodes that the catalogue does not list, the nodes are added to those to
    watch, and the host is read again after a new fingerprint.
    """
    inventory = gather(where)
    watched = watch.with_inventory(choices.watch, inventory)
    if watched.document() != choices.watch.document():
        choices.watch = watched
        key = host_fingerprint.key(choices)
        inventory = gather(where)
    return inventory, key


def from_inventory(inventory: Inventory, disabled_hooks: Sequence[str] = ()) -> Document:
    """Return the document of `prepare` for an inventory, without the host's spec files.

    The key is null, so that the shim never uses the document.

    Args:
        inventory: must have been gathered with ``Where(requirement_facts=True)``.
        disabled_hooks: names of hooks, or ``all``.

    Raises:
        CdiGenError: the inventory has no driver or no usable GPU.
    """
    document: Document = {"key": None, "layout": None, "watch": None}
    return document | specs_and_facts(inventory, disabled_hooks) | {"converted": {}}


def write(document: Document, path: str = PATH) -> None:
    """Write the document atomically to the file that the shim reads, or to another file.

    Raises:
        UnsafeError: a user other than root could change the shim's file.
        CdiGenError: the file cannot be written.
    """
    directory = os.path.dirname(path)
    try:
        make_directory(directory)
        if path == PATH:
            reason = trust.fault(directory)
            if reason:
                raise UnsafeError(
                    f"{path} is not written, because the runtime shim would not trust it: {reason}",
                    code="CDG-P009",
                    subject=path,
                )
        replace_file(path, json.dumps(document, separators=(",", ":")).encode())
    except OSError as error:
        raise CdiGenError(
            f"cannot write {path}: {error.strerror}",
            hint="run the command as root" if isinstance(error, PermissionError) else None,
            code="CDG-F004",
            subject=path,
        ) from error


def specs_and_facts(inventory: Inventory, disabled_hooks: Sequence[str]) -> Document:
    """Return all specs that a container may request, and the facts for NVIDIA_REQUIRE_*.

    The function is pure: everything comes from the inventory.

    Raises:
        CdiGenError: the inventory has no driver or no usable GPU.
    """
    # The names of steps that this version does not have are ignored.
    disabled = tuple(hook for hook in disabled_hooks if hook in (*HOOKS, ALL))
    specs = [
        generate(inventory, Options(capabilities=(), disabled_hooks=disabled)),
        generate_capabilities(inventory, Options(class_="cap", disabled_hooks=disabled)),
    ]
    special = [transports.spec(mode, inventory) for mode in transports.MODES]
    specs += [spec for spec in (*special, mig_access.spec(inventory)) if spec]
    return {"specs": [wire.to_document(spec) for spec in specs], "facts": facts(inventory)}
