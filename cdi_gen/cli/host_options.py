# SPDX-License-Identifier: Apache-2.0
"""The options that describe the host, for every command that needs an inventory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from cdi_gen.cli import CONFIGURATION
from cdi_gen.errors import CdiGenError, UsageError

if TYPE_CHECKING:
    from typing import Concatenate

    from click.shell_completion import CompletionItem

    from cdi_gen.configuration import Settings
    from cdi_gen.host import Where
    from cdi_gen.inventory import Inventory

Result = TypeVar("Result")


class HostOptions(NamedTuple):
    """The values of the options that describe the host."""

    driver_root: str
    dev_root: str | None
    library_search_path: tuple[str, ...]
    config_search_path: tuple[str, ...]
    hook_path: str | None
    host_root: str


class Text(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.3
    """Text. A value from the environment is a single value, as in nvidia-ctk."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: Any) -> str:  # noqa: ARG002
        """Return the value unchanged."""
        return value

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return a single value; click would split the text at white space."""
        return [rv]


class Directory(Text):
    """An absolute path. click.Path would check it in this process' root, not in the host's."""

    name = "dir"

    def convert(self, value: str, param: click.Parameter | None, ctx: Any) -> str:
        """Reject a relative path: the programs that read the spec have other directories."""
        if not value.startswith("/"):
            self.fail(f"{value!r} is not an absolute path", param, ctx)
        return value

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Let the shell complete the names of files and directories."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        return [CompletionItem(incomplete, type="file")]


class Program(Directory):
    """The absolute path of a program."""

    name = "file"


DIRECTORY = Directory()
PROGRAM = Program()
TEXT = Text()

FEATURE_FLAGS = ("no-additional-gids-for-device-nodes", "disable-nvsandboxutils")
"""Flags of nvidia-ctk that are accepted without effect: cdi-gen always does what they ask for."""

HOOK_PATH = "nvidia-cdi-hook-path"


class HostOption(click.Option):
    """An option that the host's configuration may set."""

    @property
    def key(self) -> str:
        """The option's key in the configuration."""
        name = str(self.name).replace("_", "-")
        return HOOK_PATH if name == "hook-path" else name

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, ParameterSource]:
        """Return the value from the command line, environment, configuration or default.

        The first of them that has a value counts. With ``--inventory`` the configuration of this
        host is not read.
        """
        value, source = super().consume_value(ctx, opts)
        is_unused = ctx.resilient_parsing or opts.get("inventory_path") is not None
        if source is not ParameterSource.DEFAULT or is_unused:
            return value, source
        setting = host_settings(ctx, opts.get("host_root")).get(self.key)
        if setting is None:
            return value, source
        return setting.value, ParameterSource.DEFAULT_MAP


def host_settings(ctx: click.Context, host_root: str | None = None) -> Settings:
    """Return the settings of the layout in the configuration of the host, or of ``--config``.

    Raises:
        CdiGenError: as `cdi_gen.configuration.load`.
    """
    return configured("host", ctx, host_root)


def configured(table: str, ctx: click.Context, host_root: str | None = None) -> Settings:
    """Return the settings of one table of the configuration.

    Raises:
        CdiGenError: as `cdi_gen.configuration.load`.
    """
    return _load(ctx.meta.get(CONFIGURATION), host_root or "/")[table]


@cache
def _load(path: str | None, host_root: str) -> dict[str, Settings]:
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
        help="Directory under which the driver's /dev is.  [default: the driver root, or / if the "
        "driver root has no /dev]",
    ),
    click.option(
        "--library-search-path",
        "library_search_path",
        cls=HostOption,
        type=DIRECTORY,
        multiple=True,
        envvar="NVIDIA_CTK_CDI_GENERATE_LIBRARY_SEARCH_PATHS",
        help="Search for libraries only in this directory; may be given several times.  "
        "[default: ldconfig's cache and the directories of distributions]",
    ),
    click.option(
        "--config-search-path",
        "config_search_path",
        cls=HostOption,
        type=DIRECTORY,
        multiple=True,
        envvar="NVIDIA_CTK_CDI_GENERATE_CONFIG_SEARCH_PATHS",
        help="Search for ICD, EGL and X.Org files only in this directory; may be given several "
        "times.  [default: /etc, /usr/share and the directories of distributions]",
    ),
    click.option(
        "--nvidia-cdi-hook-path",
        "--nvidia-ctk-path",
        "hook_path",
        cls=HostOption,
        type=PROGRAM,
        envvar="NVIDIA_CTK_CDI_HOOK_PATH",
        help="Path of the hook program.  [default: the installed cdi-gen-hook]",
    ),
    click.option(
        "--host-root",
        type=DIRECTORY,
        default="/",
        show_default=True,
        help="Path of the host's /, if cdi-gen runs in a container.",
    ),
)

_LOCATIONS = frozenset(
    {"driver_root", "dev_root", "library_search_path", "config_search_path", "host_root"}
)
"""The options for the directories to search, which have no effect with ``--inventory``."""

INVENTORY = click.option(
    "--inventory",
    "inventory_path",
    metavar="FILE",
    help="Read this inventory (-: standard input) instead of this host.  [default: this host]",
)

SPEC_DIRECTORIES = click.option(
    "--spec-dir",
    "spec_directories",
    multiple=True,
    type=DIRECTORY,
    help="Directory of spec files to read; may be given several times.  "
    "[default: /etc/cdi, /var/run/cdi]",
)


def host_options(command: Callable[Concatenate[HostOptions, ...], Result]) -> Callable[..., Result]:
    """Add the options that describe the host; the command's first argument is their value."""

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
    """Add the options that describe the host, except those that only apply to this process.

    The environment is not read, and ``--host-root`` is left out.
    """
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
    """Return the options of the command line; the values of all others are empty."""
    context = click.get_current_context()

    def is_given(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    return HostOptions(
        driver_root=host.driver_root if is_given("driver_root") else "",
        dev_root=host.dev_root if is_given("dev_root") else None,
        library_search_path=host.library_search_path if is_given("library_search_path") else (),
        config_search_path=host.config_search_path if is_given("config_search_path") else (),
        hook_path=host.hook_path if is_given("hook_path") else None,
        host_root=host.host_root if is_given("host_root") else "",
    )


def locations(
    host: HostOptions, *, requirement_facts: bool = False, transports: bool = True
) -> Where:
    """Return the locations to search for the inventory of the host."""
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


def gather_inventory(
    host: HostOptions, *, requirement_facts: bool = False, transports: bool = True
) -> Inventory:
    """Return the inventory of the host that the options describe.

    Raises:
        CdiGenError: as `cdi_gen.host.gather`; the hint names the setting that caused the error.
    """
    from cdi_gen.host import gather  # noqa: PLC0415 - not needed with --inventory

    with settings_named_in_errors():
        return gather(locations(host, requirement_facts=requirement_facts, transports=transports))


@contextmanager
def settings_named_in_errors() -> Iterator[None]:
    """Add the file and line of the setting to an error about a setting of the configuration."""
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
                settings = host_settings(context, context.params.get("host_root"))
                hint = f"the value is set in {settings[name].source}"
                error.hint = f"{hint}; {error.hint}" if error.hint else hint
        raise


def inventory_from(
    path: str | None,
    host: HostOptions,
    *,
    requirement_facts: bool = False,
    transports: bool = True,
) -> Inventory:
    """Return the inventory in a file (``-``: standard input), or the inventory of the host.

    Raises:
        UsageError: a file and an option for the directories to search are both given.
        CdiGenError: the file is not an inventory, or as `gather_inventory`.
    """
    if path is None:
        return gather_inventory(host, requirement_facts=requirement_facts, transports=transports)
    from dataclasses import replace  # noqa: PLC0415 - not needed for this host

    from cdi_gen.inventory import HookProgram  # noqa: PLC0415 - as above
    from cdi_gen.paths import HostPath  # noqa: PLC0415 - as above

    reject_locations()
    inventory = _inventory_in(path)
    if host.hook_path is None:
        return inventory
    # The path is one of the host in the inventory: this host cannot tell whether it is safe.
    return replace(inventory, hook=HookProgram(path=HostPath(host.hook_path), unsafe=None))


def reject_locations() -> None:
    """Reject locations on the command line. In the environment they are ignored."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _LOCATIONS and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = parameter.opts[0]
            raise UsageError(
                f"{option} has no effect with --inventory: this host is not searched",
                hint=f"give the option when the inventory is made: cdi-gen inventory {option} …",
                code="CDG-U007",
                subject=option,
            )


def _inventory_in(path: str) -> Inventory:
    from cdi_gen.cli import named_file  # noqa: PLC0415 - not needed for this host
    from cdi_gen.inventory.json_form import MAX_BYTES, InventoryError, load  # noqa: PLC0415

    name = named_file.display_name(path)
    hint = "make an inventory with: cdi-gen inventory -o FILE"
    try:
        content, _ = named_file.read(path, MAX_BYTES, name=f"the inventory {name}", hint=hint)
        return load(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        message = f"cannot read the inventory {name}: not UTF-8 text"
        raise CdiGenError(message, hint=hint, code="CDG-I001", subject=name) from error
    except InventoryError as error:
        raise InventoryError(
            f"{name}: {error.message}", hint=error.hint or hint, code=error.code, subject=name
        ) from error
