# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen diff``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

import click

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_base.errors import printable
from cdi_gen.cli import console, named_file
from cdi_gen.cli.host_options import HostOptions, gather_inventory, host_options
from cdi_gen.cli.output import TEXT_OR_JSON, print_data
from cdi_gen.diff import comparison, contents
from cdi_gen.diff.contents import Contents
from cdi_gen.errors import CdiGenError, ExitCode

if TYPE_CHECKING:
    from cdi_gen.cdi.model import Spec
    from cdi_gen.inventory import Inventory

HOST = "host"
MAX_BYTES = 16 << 20


class Source(NamedTuple):
    """One side of the comparison: an inventory, or specs."""

    name: str
    inventory: Inventory | None = None
    specs: tuple[Spec, ...] = ()


@click.command("diff")
@click.argument("old", metavar="[A]", required=False)
@click.argument("new", metavar="[B]", required=False)
@TEXT_OR_JSON
@host_options
def command(host: HostOptions, /, *, old: str | None, new: str | None, form: str) -> int:
    """Compare devices, nodes and files of hosts, inventories and specs.

    A and B are a spec file of any program, an inventory, a spec directory, or `host` for this host;
    - is standard input. Without B, A is compared with this host; without both, the specs that
    engines read are.

    \b
      cdi-gen diff                                  # are the installed specs those of this host?
      cdi-gen diff /etc/cdi/nvidia.yaml             # a spec of nvidia-ctk and this host
      cdi-gen diff before.json after.json           # two inventories or specs

    Every line is a difference: + only in B, - only in A, ~ in both. The exit code is 5 if there is
    one. Hooks and environment variables are compared if A and B are both specs.
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    sides = [_installed() if old is None else _source(old, host), _source(new or HOST, host)]
    difference = comparison.compare(*_contents(*sides))
    names = [side.name for side in sides]
    if form == "json":
        document = {"a": names[0], "b": names[1], **comparison.document(difference)}
        print_data(json.dumps(document, indent=2) + "\n")
    elif difference:
        lines = [f"--- {names[0]}", f"+++ {names[1]}", *comparison.lines(difference)]
        print_data("".join(f"{printable(line)}\n" for line in lines))
    return ExitCode.STALE if difference else ExitCode.OK


def _contents(old: Source, new: Source) -> tuple[Contents, Contents]:
    """Return both contents; an inventory is compared with specs by the specs of its host."""
    with_settings = old.inventory is None and new.inventory is None
    return _side(old, new, with_settings=with_settings), _side(
        new, old, with_settings=with_settings
    )


def _side(side: Source, other: Source, *, with_settings: bool) -> Contents:
    if side.inventory is None:
        return contents.of_specs(side.specs, with_settings=with_settings)
    if other.inventory is None:
        from cdi_gen.diff.expected_specs import in_manner_of  # noqa: PLC0415 - not for inventories

        try:
            return contents.of_specs(in_manner_of(side.inventory, other.specs))
        except CdiGenError as error:
            # A split driver, or a host without a usable GPU, has contents nevertheless.
            console.warning(error.message, code=error.code, hint=error.hint or "")
    return contents.of_inventory(side.inventory)


def _installed() -> Source:
    return _directories(SPEC_DIRECTORIES)


def _directories(directories: tuple[str, ...]) -> Source:
    from cdi_gen.refresh import effective_specs  # noqa: PLC0415 - not needed for files

    specs = effective_specs.read(directories).specs
    name = " and ".join(directories)
    if not specs:
        raise CdiGenError(
            f"no spec file in {name} has NVIDIA devices",
            hint="write the specs with: cdi-gen refresh; or name a spec file or an inventory",
            code="CDG-F101",
            subject=name,
        )
    return Source(name, specs=tuple(spec.used for spec in specs))


def _source(path: str, host: HostOptions) -> Source:
    """Return the host, or what a file or a directory has."""
    if path == HOST:
        return Source("this host", inventory=gather_inventory(host))
    if path != "-" and os.path.isdir(path):
        return _directories((path,))
    name = named_file.display_name(path)
    content, _ = named_file.read(path, MAX_BYTES)
    if b'"formatVersion"' in content[:200]:
        from cdi_gen.inventory.json_form import InventoryError, load  # noqa: PLC0415 - for files

        try:
            return Source(name, inventory=load(content.decode("utf-8")))
        except UnicodeDecodeError as error:
            message = f"cannot read the inventory {name}: not UTF-8 text"
            raise CdiGenError(message, code="CDG-I001", subject=name) from error
        except InventoryError as error:
            raise InventoryError(
                f"{name}: {error.message}", hint=error.hint, code=error.code, subject=name
            ) from error
    from cdi_gen.cdi import wire  # noqa: PLC0415 - as above
    from cdi_gen.cdi.problem import SpecError  # noqa: PLC0415 - as above

    try:
        return Source(name, specs=(wire.load(content),))
    except SpecError as error:
        problem = error.problems[0]
        raise CdiGenError(
            f"{name} is neither a spec nor an inventory: {problem}",
            hint=f"see all problems with: cdi-gen validate {path}",
            code="CDG-V006",
            subject=name,
        ) from error
