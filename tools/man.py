# SPDX-License-Identifier: Apache-2.0
"""Write man pages, one for each command, generated from the commands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from cdi_gen import __version__
from cdi_gen.cli import COMMANDS, main

EXIT_CODES = """0 ok; 1 error; 2 usage; 3 no NVIDIA driver or GPU; 4 written, but some devices were
left out; 5 what is there differs; 6 invalid spec; 7 refused as unsafe; 130 interrupted."""

SEE_ALSO = "podman-run(1), docker-run(1), nvidia-smi(1)"


def pages() -> dict[str, str]:
    """Man pages by file name."""
    context = click.Context(main, info_name="cdi-gen")
    found = {"cdi-gen.1": page("cdi-gen", main, context)}
    for name in COMMANDS:
        command = main.get_command(context, name)
        if command is None:
            raise SystemExit(f"{name}: no such command")
        found.update(tree(f"cdi-gen {name}", command, context))
    return found


def tree(title: str, command: click.Command, parent: click.Context) -> dict[str, str]:
    """The page of a command and those of its subcommands."""
    context = click.Context(command, info_name=title.rpartition(" ")[2], parent=parent)
    found = {f"{title.replace(' ', '-')}.1": page(title, command, context)}
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            found.update(tree(f"{title} {name}", each, context))
    return found


def page(title: str, command: click.Command, context: click.Context) -> str:
    """One man page in man(7)."""
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
                key: (each.help or "").partition("\n")[0] for key, each in command.commands.items()
            }
        )
        for key, help_text in table.items():
            lines += [".TP", f".BR {text(name)}\\-{text(key)} (1)", text(help_text)]
    lines += [".SH EXIT STATUS", text(" ".join(EXIT_CODES.split())), ".SH SEE ALSO", SEE_ALSO]
    return "\n".join(lines) + "\n"


def paragraphs(help_text: str) -> list[str]:
    """Help text as paragraphs; text that click does not wrap stays unwrapped."""
    lines = []
    for block in re.split(r"\n\s*\n", help_text.strip()):
        plain = block.replace("\b\n", "")
        if "\b" in block:
            lines += [".PP", ".nf", *(text(line) for line in plain.splitlines()), ".fi"]
        elif plain.strip():
            lines += [".PP", text(" ".join(plain.split()))]
    return lines


def text(value: str) -> str:
    """Return text as roff, with its own requests and escapes neutralized."""
    escaped = value.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, content in pages().items():
        (folder / file_name).write_text(content, encoding="utf-8")
