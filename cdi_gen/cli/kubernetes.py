# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen kubernetes``."""

from __future__ import annotations

from importlib import import_module

import click

from cdi_gen.cli import Group
from cdi_gen.cli.kubernetes_options import end_on_signals

COMMANDS = {
    "device-plugin": ("kubernetes_device_plugin", "device_plugin"),
    "labels": ("kubernetes_labels", "command"),
    "mps-control-daemon": ("kubernetes_mps", "command"),
    "nri": ("kubernetes_nri", "command"),
    "setup-node": ("kubernetes_node", "setup_node"),
    "toolkit": ("kubernetes_toolkit", "toolkit"),
}
"""Module and function of each command."""


class Commands(Group):
    """A group that imports the module of a command on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the table."""
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command; None: there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        subcommand: click.Command = getattr(import_module(f"cdi_gen.cli.{module}"), name)
        return subcommand


@click.group("kubernetes", cls=Commands)
def command() -> None:
    """Make this host a GPU node of a Kubernetes cluster."""
    end_on_signals()
