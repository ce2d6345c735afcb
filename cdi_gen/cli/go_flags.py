# SPDX-License-Identifier: Apache-2.0
"""Command lines of NVIDIA's programs, which are written in Go: ``--oneshot=true``."""

from __future__ import annotations

import re
from collections.abc import Mapping

import click

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_ASSIGNMENT = re.compile(r"--([a-z-]+)=(.*)", re.DOTALL)


class GoFlagsCommand(click.Command):
    """A command whose switches may have a value: ``--oneshot=false`` is ``--no-oneshot``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments as click does, with the values of switches resolved."""
        switches = {
            name: parameter.secondary_opts[0]
            for parameter in self.params
            if isinstance(parameter, click.Option) and parameter.secondary_opts
            for name in parameter.opts
        }
        return super().parse_args(ctx, [_switch(word, switches) for word in args])


def _switch(word: str, switches: Mapping[str, str]) -> str:
    match = _ASSIGNMENT.fullmatch(word)
    if match is None or f"--{match[1]}" not in switches:
        return word
    if match[2] in _TRUE:
        return f"--{match[1]}"
    return switches[f"--{match[1]}"] if match[2] in _FALSE else word
