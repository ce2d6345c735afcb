# SPDX-License-Identifier: Apache-2.0
"""What the runtime shim and the prestart hook apply, made beforehand: they cannot look at a host.

One JSON object:

    key         the host's state that the rest was made in (``cdi_base.host_fingerprint``)
    layout      where the driver was looked for, which the state is taken of
    watch       the nodes and files whose coming and going makes another preparation due
    specs       the GPUs without capabilities, the capabilities as devices, the special modes
    facts       what NVIDIA_REQUIRE_* is checked against
    converted   the spec files that are not JSON, by path: stamp, and document or problem
    problem     why there are no specs, where there are none; ``code`` is its code
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from cdi_base import PREPARED_DIRECTORY, PREPARED_NAME, host_fingerprint, trust
from cdi_base.cdi import SPEC_DIRECTORIES, spec_directories, specification
from cdi_base.files import make_directory, replace_file
from cdi_gen.catalogue import catalogue
from cdi_gen.cdi import wire
from cdi_gen.cdi.problem import SpecError
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.generate import generate, generate_capabilities, mig_access
from cdi_gen.generate.modes import transports
from cdi_gen.generate.options import ALL, HOOKS, Options
from cdi_gen.generate.requirements import facts
from cdi_gen.host import Where, gather, hook_program
from cdi_gen.host.roots import Root
from cdi_gen.inventory import Inventory
from cdi_gen.programs import watch

PATH = f"{PREPARED_DIRECTORY}/{PREPARED_NAME}"

Document = dict[str, Any]


def choices(
    *,
    driver_root: str = "/",
    hook: str | None = None,
    spec_directories: tuple[str, ...] = (),
    disabled_hooks: tuple[str, ...] = (),
    feature_flags: tuple[str, ...] = (),
    places: tuple[str, ...] = (),
) -> host_fingerprint.Choices:
    """What to prepare; without any argument, what the shim asks for without a config.toml.

    Args:
        driver_root: under which the driver is installed.
        hook: the hook program; None: the installed one.
        spec_directories: whose YAML files to convert; none: those of engines.
        disabled_hooks: names of hooks, or ``all``.
        feature_flags: part of the key alone: none of the peer's changes what cdi-gen makes.
        places: what else the caller says of the host's layout, as words; part of the key alone.
    """
    if hook is None:
        found = hook_program.find(Root(), None)
        hook = found.path if found else ""
    directories = spec_directories or SPEC_DIRECTORIES
    return host_fingerprint.Choices(
        driver_root, hook, directories, disabled_hooks, feature_flags, places
    )


def prepare(choices: host_fingerprint.Choices, where: Where | None = None) -> Document:
    """Look at this host and make of it all that containers may ask for.

    Args:
        choices: what the shim will compare.
        where: how the host is laid out; None: as the choices alone say.

    Raises:
        CdiGenError: it has no driver or GPU that could be given, and no YAML file either.
    """
    if where is None:
        where = Where(driver_root=choices.driver_root or "/", hook_path=choices.hook or None)
    choices.layout = host_fingerprint.Layout(
        where.driver_root,
        where.dev_root or "",
        (*where.library_search_path, *where.config_search_path),
    )
    choices.watch = watch.of_catalogue(catalogue())
    # Before the look, so that a change meanwhile makes another preparation due.
    key = host_fingerprint.key(choices)
    converted = _converted(choices.spec_directories)
    document: Document = {"key": key, "layout": choices.layout.document(), "watch": None}
    document |= {"specs": [], "facts": None, "converted": converted}
    try:
        inventory, document["key"] = _gathered(choices, where._replace(requirement_facts=True), key)
        document |= specs_and_facts(inventory, choices.disabled_hooks)
    except CdiGenError as error:
        if not converted:
            raise
        hint = f"; {error.hint}" if error.hint else ""
        document |= {"problem": f"{error.message}{hint}", "code": error.code}
    document["watch"] = choices.watch.document()
    return document


def _gathered(
    choices: host_fingerprint.Choices, where: Where, key: list[object]
) -> tuple[Inventory, list[object]]:
    """The inventory, and the fingerprint that was taken before the host was read.

    A platform whose nodes the catalogue does not list is read twice: what to watch is known only
    when its inventory is.
    """
    inventory = gather(where)
    watched = watch.with_inventory(choices.watch, inventory)
    if watched.document() != choices.watch.document():
        choices.watch = watched
        key = host_fingerprint.key(choices)
        inventory = gather(where)
    return inventory, key


def from_inventory(inventory: Inventory, disabled_hooks: Sequence[str] = ()) -> Document:
    """What `prepare` would make on the host of an inventory, without that host's spec files.

    The key is null: the shim uses no such document, whichever host it is on.

    Args:
        inventory: must have been gathered with ``Where(requirement_facts=True)``.
        disabled_hooks: names of hooks, or ``all``.

    Raises:
        CdiGenError: the inventory has no driver or GPU that a container could be given.
    """
    document: Document = {"key": None, "layout": None, "watch": None}
    return document | specs_and_facts(inventory, disabled_hooks) | {"converted": {}}


def write(document: Document, path: str = PATH) -> None:
    """Put it where the shim reads it, whole or not at all.

    Raises:
        UnsafeError: others than root could change it.
        CdiGenError: the file system refuses.
    """
    directory = os.path.dirname(path)
    try:
        make_directory(directory)
        if path == PATH:
            reason = trust.fault(directory)
            if reason:
                raise UnsafeError(
                    f"the runtime shim would not read {path}: {reason}",
                    code="CDG-P009",
                    subject=path,
                )
        replace_file(path, json.dumps(document, separators=(",", ":")).encode())
    except OSError as error:
        raise CdiGenError(
            f"cannot write {path}: {error.strerror}",
            hint="run it as root" if isinstance(error, PermissionError) else None,
            code="CDG-F004",
            subject=path,
        ) from error


def specs_and_facts(inventory: Inventory, disabled_hooks: Sequence[str]) -> Document:
    """All specs that a container may request, and the facts that requirements are checked against.

    Pure: everything comes from the inventory.

    Raises:
        CdiGenError: the inventory has no driver or GPU that a container could be given.
    """
    # A step that this version does not have is in no spec.
    disabled = tuple(hook for hook in disabled_hooks if hook in (*HOOKS, ALL))
    specs = [
        generate(inventory, Options(capabilities=(), disabled_hooks=disabled)),
        generate_capabilities(inventory, Options(class_="cap", disabled_hooks=disabled)),
    ]
    special = [transports.spec(mode, inventory) for mode in transports.MODES]
    specs += [spec for spec in (*special, mig_access.spec(inventory)) if spec]
    return {"specs": [wire.to_document(spec) for spec in specs], "facts": facts(inventory)}


def _converted(directories: Sequence[str]) -> dict[str, Document]:
    """The spec files that are not JSON; of what every engine ignores, the reason."""
    found: dict[str, Document] = {}
    for directory in directories:
        try:
            files = list(spec_directories.files(directory))
        except OSError:
            continue
        for file in files:
            content = file.content
            if content is not None and spec_directories.json_document(content) is None:
                found[file.path] = {"stamp": file.stamp, **_conversion(content)}
    return found


def _conversion(content: bytes) -> Document:
    try:
        document, of_text = wire.read(content)
        known, faults = specification.judge(document, of_text)
    except (SpecError, specification.TooMuchError) as error:
        return {"problem": str(error)}
    if specification.ignored_by(faults) == specification.EVERY:
        return {"problem": f"engines ignore it: {faults[0]}"}
    return {"document": known}
