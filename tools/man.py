# SPDX-License-Identifier: Apache-2.0
"""Writes a man page for each command, from the help texts of the commands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from cdi_gen import __version__
from cdi_gen.cli import COMMANDS, main

EXIT_CODES = """0 ok; 1 error; 2 usage; 3 no NVIDIA driver or GPU; 4 written without some devices;
5 something differs, or specs are held back; 6 invalid spec; 7 refused as unsafe;
130 interrupted."""

SEE_ALSO = "podman-run(1), docker-run(1), nvidia-smi(1)"


def pages() -> dict[str, str]:
    """Return all man pages by file name."""
    context = click.Context(main, info_name="cdi-gen", **main.context_settings)
    by_name = {"cdi-gen.1": page("cdi-gen", main, context)}
    for name in COMMANDS:
        command = main.get_command(context, name)
        if command is None:
            raise SystemExit(f"{name}: no such command")
        by_name.update(command_pages(f"cdi-gen {name}", command, context))
    return by_name


def command_pages(title: str, command: click.Command, parent: click.Context) -> dict[str, str]:
    """Return the pages of a command and of its subcommands by file name."""
    context = click.Context(command, info_name=title.rpartition(" ")[2], parent=parent)
    by_name = {f"{title.replace(' ', '-')}.1": page(title, command, context)}
    if isinstance(command, click.Group):
        for name, subcommand in subcommands(command, context).items():
            by_name.update(command_pages(f"{title} {name}", subcommand, context))
    return by_name


def subcommands(group: click.Group, context: click.Context) -> dict[str, click.Command]:
    """Return the commands of a group by name."""
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in commands.items() if command is not None}


def page(title: str, command: click.Command, context: click.Context) -> str:
    """Return a man page in the format of man(7)."""
    name = title.replace(" ", "-")
    summary, _, rest = (command.help or "").partition("\n")
    lines = [
        f'.TH "{name.upper()}" 1 "" "cdi-gen {__version__}" "cdi-gen manual"',
        ".SH NAME",
        f"{text(name)} \\- {text(summary.strip().rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {text(title)}",
        text(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *paragraphs(rest),
        ".SH OPTIONS",
    ]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record:
            lines += [".TP", f".B {text(record[0])}", text(record[1])]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        table = (
            COMMANDS
            if command is main
            else {
                key: (subcommand.help or "").partition("\n")[0]
                for key, subcommand in subcommands(command, context).items()
            }
        )
        for key, help_text in table.items():
            lines += [".TP", f".BR {text(name)}\\-{text(key)} (1)", text(help_text)]
    lines += [".SH EXIT STATUS", text(" ".join(EXIT_CODES.split())), ".SH SEE ALSO", SEE_ALSO]
    return "\n".join(lines) + "\n"


def paragraphs(help_text: str) -> list[str]:
    r"""Return the lines of a help text in roff; paragraphs that start with \b are not wrapped."""
    lines = []
    for block in re.split(r"\n\s*\n", help_text.strip()):
        paragraph = block.replace("\b\n", "")
        if "\b" in block:
            lines += [".PP", ".nf", *(text(line) for line in paragraph.splitlines()), ".fi"]
        elif paragraph.strip():
            lines += [".PP", text(" ".join(paragraph.split()))]
    return lines


def text(value: str) -> str:
    """Return text in roff, with requests and escapes quoted."""
    escaped = value.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, content in pages().items():
        (folder / file_name).write_text(content, encoding="utf-8")
