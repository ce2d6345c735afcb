# SPDX-License-Identifier: Apache-2.0
"""Each option of a command reaches its function under its name and with its type.

click passes options by name, which mypy does not see; from the function on it sees everything.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import click

from cdi_gen import cli
from cdi_gen.cli.host_options import HostOptions
from cdi_gen.cli.kubernetes_options import ConfigOptions, Words
from cdi_gen.cli.metrics import Mode, Seconds

SHARED_OPTIONS: dict[tuple[str, ...], dict[str, Any]] = {
    options._fields: typing.get_type_hints(options) for options in (HostOptions, ConfigOptions)
}
"""By the names of the parameters that a decorator takes for the function of a command."""


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield " ".join((*path, name)), command


def type_of(parameter: click.Parameter) -> Any:
    """The type of the values that click passes for a parameter."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return bool | None if parameter.secondary_opts and parameter.default is None else bool
    if isinstance(parameter.type, Words):
        return tuple[str, ...] if isinstance(parameter.default, str) else tuple[str, ...] | None
    if isinstance(parameter.type, click.FloatRange | Seconds):
        return float
    if isinstance(parameter.type, click.IntRange | Mode):
        return int
    if parameter.multiple or parameter.nargs == -1:
        return tuple[str, ...]
    if parameter.required or isinstance(parameter.default, str):
        return str
    return str | None


def keyword_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of the keyword parameters of a command's function."""
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    names = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped:
        return SHARED_OPTIONS[tuple(names)] | keyword_types(wrapped)
    hints = typing.get_type_hints(function)
    return {name: hints[name] for name in names}


def test_each_option_has_a_parameter_of_its_type() -> None:
    assert isinstance(cli.main, cli.Commands)
    checked = 0
    for name, command in commands(cli.main):
        assert command.callback is not None
        options = {str(each.name): type_of(each) for each in command.params if each.expose_value}
        parameters = keyword_types(command.callback)
        if name == "runtime prepare":
            assert parameters.pop("host_root") is str  # the wrapper has a default for it
        assert parameters == options, name
        checked += 1
    assert checked == 36


def test_the_default_of_a_switch_is_not_the_name_of_the_option() -> None:
    """As click writes it: "[default: no-set-as-default]"."""
    for name, command in commands(cli.main):
        context = click.Context(command, info_name=name)
        for option in command.params:
            record = option.get_help_record(context)
            if not isinstance(option, click.Option) or not option.secondary_opts or not record:
                continue
            names = [word.lstrip("-") for word in (*option.opts, *option.secondary_opts)]
            assert not [word for word in names if f"[default: {word}]" in record[1]], name


def test_no_function_of_a_command_takes_untyped_options() -> None:
    for name, command in commands(cli.main):
        assert command.callback is not None
        function = inspect.unwrap(command.callback)
        kinds = [each.kind for each in inspect.signature(function).parameters.values()]
        assert inspect.Parameter.VAR_KEYWORD not in kinds, name
