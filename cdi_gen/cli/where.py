# SPDX-License-Identifier: Apache-2.0
"""The options that say where to look, shared by every command that needs an inventory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from cdi_gen.cli import named_file
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import HostPath

F = TypeVar("F", bound=Callable[..., Any])


class Text(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.3
    """Text, taken whole: a value from the environment is one value, as nvidia-ctk has it."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: Any) -> str:  # noqa: ARG002
        """Take the value as it is."""
        return value

    def split_envvar_value(self, rv: str) -> list[str]:
        """One value, whatever is in it."""
        return [rv]


class Directory(Text):
    """An absolute path; click's own type would check it here, not below the host root."""

    name = "dir"

    def convert(self, value: str, param: click.Parameter | None, ctx: Any) -> str:
        """Refuse a relative path: the spec is read by programs with another working directory."""
        if not value.startswith("/"):
            self.fail(f"{value!r} is not an absolute path", param, ctx)
        return value


class Program(Directory):
    """The absolute path of a program."""

    name = "file"


DIRECTORY = Directory()
PROGRAM = Program()
TEXT = Text()

OPTIONS = (
    click.option(
        "--driver-root",
        type=DIRECTORY,
        default="/",
        show_default=True,
        envvar=["NVIDIA_CTK_DRIVER_ROOT"],
        help="Directory under which the driver is installed.",
    ),
    click.option(
        "--dev-root",
        type=DIRECTORY,
        envvar="NVIDIA_CTK_DEV_ROOT",
        help="Directory under which the driver's /dev is.  [default: the driver root]",
    ),
    click.option(
        "--library-search-path",
        "library_search_path",
        type=DIRECTORY,
        multiple=True,
        envvar="NVIDIA_CTK_CDI_GENERATE_LIBRARY_SEARCH_PATHS",
        help="Look for libraries here alone; may be given several times.  "
        "[default: ldconfig's cache, and where distributions put them]",
    ),
    click.option(
        "--config-search-path",
        "config_search_path",
        type=DIRECTORY,
        multiple=True,
        envvar="NVIDIA_CTK_CDI_GENERATE_CONFIG_SEARCH_PATHS",
        help="Look for ICD, EGL and X.Org files here alone; may be given several times.  "
        "[default: /etc, /usr/share and where distributions put them]",
    ),
    click.option(
        "--nvidia-cdi-hook-path",
        "--nvidia-ctk-path",
        "hook_path",
        type=PROGRAM,
        envvar="NVIDIA_CTK_CDI_HOOK_PATH",
        help="The hook program.  [default: the installed cdi-gen-hook]",
    ),
    click.option(
        "--host-root",
        type=DIRECTORY,
        default="/",
        show_default=True,
        help="Where the host's / is visible, when cdi-gen itself runs in a container.",
    ),
)

_PLACES = frozenset(
    {"driver_root", "dev_root", "library_search_path", "config_search_path", "host_root"}
)
"""What an inventory already is the answer to."""

INVENTORY = click.option(
    "--inventory",
    "inventory_path",
    metavar="FILE",
    help="Use this inventory (-: standard input) and do not look.  [default: look at this host]",
)

SPEC_DIRECTORIES = click.option(
    "--spec-dir",
    "spec_directories",
    multiple=True,
    type=DIRECTORY,
    help="Look in the spec files there; may be given several times.  "
    "[default: /etc/cdi, /var/run/cdi]",
)


def looking(command: F) -> F:
    """Add the options that say where to look."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def look(**options: Any) -> Inventory:
    """The inventory of the host that the options describe."""
    from cdi_gen.host import Where, gather  # noqa: PLC0415 - not needed with --inventory

    return gather(Where(**options))


def inventory_from(path: str | None, *, hook_path: str | None = None, **options: Any) -> Inventory:
    """The inventory in a file (``-``: standard input), or that of the host.

    Raises:
        UsageError: there is a file, and an option says where to look on this host.
    """
    if path is None:
        return look(hook_path=hook_path, **options)
    _require_nothing_to_look_for()
    inventory = _inventory_in(path)
    if hook_path is None:
        return inventory
    # A path of the host that the inventory is of: it cannot be judged here.
    return replace(inventory, hook=HookProgram(path=HostPath(hook_path), unsafe=None))


def _require_nothing_to_look_for() -> None:
    """Refuse what was typed to no effect; the environment may be set for other calls too."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if (
            name in _PLACES
            and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        ):
            raise UsageError(
                f"{parameter.opts[0]} says where to look, and with --inventory nothing is looked "
                "at",
                hint=f"give it where the inventory is made: cdi-gen inventory {parameter.opts[0]} "
                "…",
            )


def _inventory_in(path: str) -> Inventory:
    from cdi_gen.inventory_json import MAX_BYTES, InventoryError, load  # noqa: PLC0415

    name = named_file.title(path)
    hint = "make one with: cdi-gen inventory -o FILE"
    try:
        content, _ = named_file.read(path, MAX_BYTES, what=f"the inventory {name}", hint=hint)
        return load(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        message = f"cannot read the inventory {name}: not UTF-8 text"
        raise CdiGenError(message, hint=hint) from error
    except InventoryError as error:
        raise InventoryError(f"{name}: {error.message}", hint=error.hint or hint) from error
