# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen why``."""

from __future__ import annotations

import click

from cdi_base.cdi import names
from cdi_gen.cli.host_options import (
    INVENTORY,
    SPEC_DIRECTORIES,
    TEXT,
    HostOptions,
    host_options,
)
from cdi_gen.cli.output import TEXT_OR_JSON
from cdi_gen.errors import UsageError


class Question(click.Command):
    """A command whose arguments may be the command line of a container engine.

    The options of that command line are the engine's: ours come before the engine's name.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments as click does, up to the name of an engine's program."""
        ctx.allow_interspersed_args = False
        options, _, _ = self.make_parser(ctx).parse_args(args=[*args])
        words = options.get("words")  # a sentinel since click 8.3 where there is none
        ctx.allow_interspersed_args = not (isinstance(words, tuple) and is_command_line(words))
        return super().parse_args(ctx, args)


def is_command_line(words: tuple[str, ...]) -> bool:
    """Whether words are a command line of a container engine, or begin with what precedes one."""
    from cdi_gen.why.command import prefix  # noqa: PLC0415 - not for completion

    first = words[0].rpartition("/")[2] if words else ""
    return first in (*prefix.PROGRAMS, *prefix.STARTERS) or prefix.is_command_line(words)


@click.command("why", cls=Question, short_help="Say why a container gets no GPU.")
@click.argument("words", metavar="NAME…|COMMAND…|FILE", nargs=-1)
@click.option(
    "--engine",
    "engine_names",
    metavar="ENGINE[@VERSION]",
    multiple=True,
    type=TEXT,
    help="Answer for this engine (podman@4.9.3); may be given several times.  [default: the "
    "engines of this host]",
)
@click.option(
    "--user",
    "user_name",
    metavar="USER",
    type=TEXT,
    help="Answer for the rootless engines of this user.  [default: the user who calls]",
)
@click.option(
    "--container",
    metavar="ID|NAME|PID",
    type=TEXT,
    help="Say what this container has, and why its GPUs do not work.  [default: NAME]",
)
@click.option(
    "--bundle",
    metavar="DIR",
    type=TEXT,
    help="The same for the container of a bundle, which need not run.  [default: NAME]",
)
@click.option(
    "--state",
    metavar="DIR",
    type=TEXT,
    help="The same for the state directory of runc or crun.  [default: NAME]",
)
@TEXT_OR_JSON
@INVENTORY
@SPEC_DIRECTORIES
@host_options
def command(
    host: HostOptions,
    /,
    *,
    words: tuple[str, ...],
    engine_names: tuple[str, ...],
    user_name: str | None,
    container: str | None,
    bundle: str | None,
    state: str | None,
    form: str,
    inventory_path: str | None,
    spec_directories: tuple[str, ...],
) -> int:
    """Say why a container gets the device NAME, or does not.

    NAME is a device as engines know it (nvidia.com/gpu=0). Each engine of this host answers: which
    spec files it reads as which user, what keeps it from resolving the name, and what would fail
    when a container starts.

    COMMAND is a command line (docker run --gpus all IMAGE), FILE a Compose file, a manifest of
    Kubernetes, a quadlet or a unit. The answer is the mechanism that the engine takes, what it
    injects, what is wrong with the command, and a command that works here.

    Exit codes: 0 every engine gives the device, 1 one does not, 4 not everything can be seen.
    """
    chosen = [name for name in (container, bundle, state) if name is not None]
    if len(chosen) > 1 or (chosen and (words or engine_names or user_name)):
        raise UsageError(
            "--container, --bundle and --state are given alone, without names and engines",
            code="CDG-U002",
        )
    if chosen:
        from cdi_gen.cli import why_container  # noqa: PLC0415 - one of several questions

        asked = why_container.Question(
            host, container, bundle, state, inventory_path, spec_directories
        )
        return why_container.run(asked, form)
    if not words:
        raise UsageError(
            "no device is named", hint="for example: cdi-gen why nvidia.com/gpu=0", code="CDG-U001"
        )
    from cdi_gen.cli import why_lookup  # noqa: PLC0415 - one of several questions

    question = why_lookup.Question(
        host=host,
        names=words,
        engine_names=engine_names,
        user_name=user_name,
        inventory_path=inventory_path,
        spec_directories=spec_directories,
    )
    if all(map(names.is_qualified, words)):
        return why_lookup.answer(question, form)
    from cdi_gen.why.command import reading  # noqa: PLC0415

    if reading.is_command(words):
        from cdi_gen.cli import why_command  # noqa: PLC0415

        return why_command.answer(question, form)
    return why_lookup.answer(question, form)
