# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen config``."""

from __future__ import annotations

import json

import click
from click.core import ParameterSource

from cdi_gen import configuration
from cdi_gen.cli import CONFIGURATION, Group, console
from cdi_gen.cli.host_options import (
    HostOption,
    HostOptions,
    configured,
    host_options,
    host_settings,
)
from cdi_gen.cli.output import aligned, print_data
from cdi_gen.refresh import settings as refresh_settings

COLUMNS = ("KEY", "VALUE", "FROM")

DEFAULTS = {
    "dev-root": "the driver root",
    "library-search-path": "ldconfig's cache and the directories of distributions",
    "config-search-path": "/etc, /usr/share and the directories of distributions",
    "nvidia-cdi-hook-path": "the installed cdi-gen-hook",
}
"""Descriptions of the defaults that are not a single path."""


@click.group("config", cls=Group)
def command() -> None:
    """Show the settings for this host, and their sources."""


@command.command("show", short_help="Print each setting and its source.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Format of the output.",
)
@host_options
def show(host: HostOptions, /, *, form: str) -> None:
    """Print each setting for the layout of the host and for refresh, and its source.

    The command line has priority over the environment, then come /etc/cdi-gen/config.d/*.toml, and
    last /etc/cdi-gen/config.toml. `cdi-gen generate` with the same options and environment uses
    these settings.
    """
    ctx = click.get_current_context()
    explicit = ctx.meta.get(CONFIGURATION)
    files = [explicit] if explicit else configuration.files(host.host_root)
    settings = host_settings(ctx, host.host_root)
    options = {
        option.key: option for option in ctx.command.params if isinstance(option, HostOption)
    }
    rows: list[Row] = [
        (key, value, _source(ctx, options[key], settings)) for key, value in _values(host).items()
    ]
    refresh_rows = _refresh_rows(configured("refresh", ctx, host.host_root))
    if form == "json":
        document = {
            "files": files,
            "host": _json_rows(rows),
            "refresh": _json_rows(refresh_rows),
        }
        print_data(json.dumps(document, indent=2) + "\n")
        return
    lines = [(key, _value_text(key, value), source) for key, value, source in rows]
    lines += [
        (f"refresh.{key}", _value_text(key, value), source) for key, value, source in refresh_rows
    ]
    print_data(aligned([COLUMNS, *lines]))
    console.note(f"read {', '.join(files)}" if files else f"{configuration.PATH} does not exist")


Row = tuple[str, configuration.Value | None, str]
"""(key, value, source)."""


def _json_rows(rows: list[Row]) -> dict[str, dict[str, object]]:
    return {key: {"value": value, "from": source} for key, value, source in rows}


def _refresh_rows(values: configuration.Settings) -> list[Row]:
    """The settings of ``refresh`` in the configuration; its options take precedence."""
    chosen = refresh_settings.settings({key: setting.value for key, setting in values.items()})
    return [
        (
            key,
            getattr(chosen, key.replace("-", "_")),
            values[key].source if key in values else "default",
        )
        for key in configuration.TABLES[configuration.REFRESH]
    ]


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


def _value_text(key: str, value: configuration.Value | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not value:
        return DEFAULTS[key]
    return ", ".join(value) if isinstance(value, tuple) else str(value)
