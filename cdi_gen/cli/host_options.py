# SPDX-License-Identifier: Apache-2.0
"""The options that describe the host, shared by every command that needs an inventory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from cdi_gen.cli import CONFIGURATION, named_file
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import HostPath

if TYPE_CHECKING:
    from typing import Concatenate

    from cdi_gen.configuration import Settings
    from cdi_gen.host import Where

Result = TypeVar("Result")


class HostOptions(NamedTuple):
    """What the options that describe the host are set to."""

    driver_root: str
    dev_root: str | None
    library_search_path: tuple[str, ...]
    config_search_path: tuple[str, ...]
    hook_path: str | None
    host_root: str


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

HOOK_PATH = "nvidia-cdi-hook-path"


class HostOption(click.Option):
    """An option that the host's configuration may hold; it is read where nothing else says it."""

    @property
    def key(self) -> str:
        """Its name there."""
        name = str(self.name).replace("_", "-")
        return HOOK_PATH if name == "hook-path" else name

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, ParameterSource]:
        """The command line, the environment, the file, the default: the first that says it."""
        value, source = super().consume_value(ctx, opts)
        elsewhere = ctx.resilient_parsing or opts.get("inventory_path") is not None
        if source is not ParameterSource.DEFAULT or elsewhere:
            return value, source
        setting = configured(ctx, opts.get("host_root")).get(self.key)
        if setting is None:
            return value, source
        return setting.value, ParameterSource.DEFAULT_MAP


def configured(ctx: click.Context, host_root: str | None = None) -> Settings:
    """What the host's configuration says, or the file that the command line names in its place."""
    return _loaded(ctx.meta.get(CONFIGURATION), host_root or "/")


@cache
def _loaded(path: str | None, host_root: str) -> Settings:
    from cdi_gen import configuration  # noqa: PLC0415 - not needed with --inventory

    return configuration.load(path, host_root)


OPTIONS = (
    click.option(
        "--driver-root",
        cls=HostOption,
        type=DIRECTORY,
        default="/",
        show_default=True,
        envvar=["NVIDIA_CTK_DRIVER_ROOT"],
        help="Directory under which the driver is installed.",
    ),
    click.option(
        "--dev-root",
        cls=HostOption,
        type=DIRECTORY,
        envvar="NVIDIA_CTK_DEV_ROOT",
        help="Directory under which the driver's /dev is.  [default: the driver root, or / where "
        "that has no /dev]",
    ),
    click.option(
        "--library-search-path",
        "library_search_path",
        cls=HostOption,
        type=DIRECTORY,
        multiple=True,
        envvar="NVIDIA_CTK_CDI_GENERATE_LIBRARY_SEARCH_PATHS",
        help="Look for libraries here alone; may be given several times.  "
        "[default: ldconfig's cache, and where distributions put them]",
    ),
    click.option(
        "--config-search-path",
        "config_search_path",
        cls=HostOption,
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
        cls=HostOption,
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

_LOCATIONS = frozenset(
    {"driver_root", "dev_root", "library_search_path", "config_search_path", "host_root"}
)
"""Options that say where to look. They have no effect on an inventory that exists already."""

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


def host_options(command: Callable[Concatenate[HostOptions, ...], Result]) -> Callable[..., Result]:
    """Add the options that describe the host. The command gets them as one value, its first."""

    @wraps(command)
    def with_host_options(
        *,
        driver_root: str,
        dev_root: str | None,
        library_search_path: tuple[str, ...],
        config_search_path: tuple[str, ...],
        hook_path: str | None,
        host_root: str = "/",
        **others: object,
    ) -> Result:
        host = HostOptions(
            driver_root=driver_root,
            dev_root=dev_root,
            library_search_path=library_search_path,
            config_search_path=config_search_path,
            hook_path=hook_path,
            host_root=host_root,
        )
        return command(host, **others)

    decorated: Callable[..., Result] = with_host_options
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated


def permanent_host_options(
    command: Callable[Concatenate[HostOptions, ...], Result],
) -> Callable[..., Result]:
    """Add those that stay true after this process: neither its environment nor its root counts."""
    decorated = host_options(command)
    parameters = decorated.__click_params__  # type: ignore[attr-defined]
    for option in parameters:
        if isinstance(option, HostOption):
            option.envvar = None
    decorated.__click_params__ = [  # type: ignore[attr-defined]
        option for option in parameters if option.name != "host_root"
    ]
    return decorated


def from_command_line(host: HostOptions) -> HostOptions:
    """The options that the command line gives; every other one is empty."""
    context = click.get_current_context()

    def is_typed(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    return HostOptions(
        driver_root=host.driver_root if is_typed("driver_root") else "",
        dev_root=host.dev_root if is_typed("dev_root") else None,
        library_search_path=host.library_search_path if is_typed("library_search_path") else (),
        config_search_path=host.config_search_path if is_typed("config_search_path") else (),
        hook_path=host.hook_path if is_typed("hook_path") else None,
        host_root=host.host_root if is_typed("host_root") else "",
    )


def locations(
    host: HostOptions, *, requirement_facts: bool = False, transports: bool = True
) -> Where:
    """Where to look for the inventory of the host that the options describe."""
    from cdi_gen.host import Where  # noqa: PLC0415 - not needed with --inventory

    return Where(
        host_root=host.host_root,
        driver_root=host.driver_root,
        dev_root=host.dev_root,
        library_search_path=host.library_search_path,
        config_search_path=host.config_search_path,
        hook_path=host.hook_path,
        requirement_facts=requirement_facts,
        transports=transports,
    )


def look(
    host: HostOptions, *, requirement_facts: bool = False, transports: bool = True
) -> Inventory:
    """The inventory of the host that the options describe."""
    from cdi_gen.host import gather  # noqa: PLC0415 - not needed with --inventory

    with settings_named_in_errors():
        return gather(locations(host, requirement_facts=requirement_facts, transports=transports))


@contextmanager
def settings_named_in_errors() -> Iterator[None]:
    """Add to an error about a setting of the host's configuration the file that contains it."""
    context = click.get_current_context()
    try:
        yield
    except CdiGenError as error:
        name = error.message.partition(":")[0].removeprefix("--")
        for option in context.command.params:
            from_file = (
                context.get_parameter_source(str(option.name)) is ParameterSource.DEFAULT_MAP
            )
            if isinstance(option, HostOption) and option.key == name and from_file:
                source = configured(context, context.params.get("host_root"))[name].source
                error.hint = f"{source} says so" + (f"; {error.hint}" if error.hint else "")
        raise


def inventory_from(
    path: str | None,
    host: HostOptions,
    *,
    requirement_facts: bool = False,
    transports: bool = True,
) -> Inventory:
    """The inventory in a file (``-``: standard input), or that of the host.

    Raises:
        UsageError: there is a file, and an option says where to look on this host.
    """
    if path is None:
        return look(host, requirement_facts=requirement_facts, transports=transports)
    _reject_locations()
    inventory = _inventory_in(path)
    if host.hook_path is None:
        return inventory
    # A path of the host that the inventory describes: its safety cannot be judged on this host.
    return replace(inventory, hook=HookProgram(path=HostPath(host.hook_path), unsafe=None))


def _reject_locations() -> None:
    """Reject locations on the command line; the environment may be set for other commands."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _LOCATIONS and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = parameter.opts[0]
            raise UsageError(
                f"{option} has no effect with --inventory: this host is not searched",
                hint=f"give it where the inventory is made: cdi-gen inventory {option} …",
                code="CDG-U007",
                subject=option,
            )


def _inventory_in(path: str) -> Inventory:
    from cdi_gen.inventory.json_form import MAX_BYTES, InventoryError, load  # noqa: PLC0415

    name = named_file.title(path)
    hint = "make one with: cdi-gen inventory -o FILE"
    try:
        content, _ = named_file.read(path, MAX_BYTES, what=f"the inventory {name}", hint=hint)
        return load(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        message = f"cannot read the inventory {name}: not UTF-8 text"
        raise CdiGenError(message, hint=hint, code="CDG-I001", subject=name) from error
    except InventoryError as error:
        raise InventoryError(
            f"{name}: {error.message}", hint=error.hint or hint, code=error.code, subject=name
        ) from error
