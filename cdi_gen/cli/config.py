# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen config``."""

from __future__ import annotations

import json

import click
from click.core import ParameterSource

from cdi_gen import configuration
from cdi_gen.cli import CONFIGURATION, Group, console
from cdi_gen.cli.host_options import HostOption, HostOptions, configured, host_options
from cdi_gen.cli.output import aligned, print_data

COLUMNS = ("KEY", "VALUE", "FROM")

DEFAULTS = {
    "dev-root": "the driver root",
    "library-search-path": "ldconfig's cache, and where distributions put them",
    "config-search-path": "/etc, /usr/share and where distributions put them",
    "nvidia-cdi-hook-path": "the installed cdi-gen-hook",
}
"""What an option is that nobody gives, where it is no path."""


@click.group("config", cls=Group)
def command() -> None:
    """Show how this host is laid out, and where that is said."""


@command.command("show", short_help="Print each setting, and where it comes from.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of what is printed on standard output.",
)
@host_options
def show(host: HostOptions, /, *, form: str) -> None:
    """Print each setting of the host's configuration, and where it comes from.

    The command line counts before the environment, that before /etc/cdi-gen/config.d/*.toml, and
    those before /etc/cdi-gen/config.toml. The settings are those that `cdi-gen generate`, given the
    same options and environment, would use.
    """
    ctx = click.get_current_context()
    explicit = ctx.meta.get(CONFIGURATION)
    read = [explicit] if explicit else configuration.files(host.host_root)
    settings = configured(ctx, host.host_root)
    options = {each.key: each for each in ctx.command.params if isinstance(each, HostOption)}
    rows = [
        (key, value, _source(ctx, options[key], settings)) for key, value in _values(host).items()
    ]
    if form == "json":
        document = {key: {"value": value, "from": source} for key, value, source in rows}
        print_data(json.dumps({"files": read, "host": document}, indent=2) + "\n")
        return
    print_data(aligned([COLUMNS, *((key, _shown(key, value), at) for key, value, at in rows)]))
    console.note(f"read: {', '.join(read)}" if read else f"there is no {configuration.PATH}")


def _values(host: HostOptions) -> dict[str, str | tuple[str, ...] | None]:
    """The value of each key of the configuration, in the order in which they are printed."""
    return {
        "driver-root": host.driver_root,
        "dev-root": host.dev_root,
        "library-search-path": host.library_search_path,
        "config-search-path": host.config_search_path,
        "nvidia-cdi-hook-path": host.hook_path,
    }


def _source(ctx: click.Context, option: HostOption, settings: configuration.Settings) -> str:
    source = ctx.get_parameter_source(str(option.name))
    if source is ParameterSource.COMMANDLINE:
        return f"the command line, --{option.key}"
    if source is ParameterSource.ENVIRONMENT:
        names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
        return f"the environment, {', '.join(names)}"
    return settings[option.key].source if source is ParameterSource.DEFAULT_MAP else "default"


def _shown(key: str, value: str | tuple[str, ...] | None) -> str:
    if not value:
        return DEFAULTS[key]
    return ", ".join(value) if isinstance(value, tuple) else str(value)
