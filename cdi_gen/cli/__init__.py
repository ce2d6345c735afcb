# SPDX-License-Identifier: Apache-2.0
"""The command line: each command parses, calls and prints; the work is done elsewhere.

A command's module is imported when that command runs, so that none pays for the others.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import Any

import click

from cdi_gen import __version__
from cdi_gen.cli import console
from cdi_gen.cli.output import redirected_to_spec
from cdi_gen.errors import CdiGenError, ExitCode, InterruptedByUserError, UsageError

CONFIGURATION = "cdi_gen.config"
"""Where contexts keep what `--config` names."""

COMMANDS = {
    "generate": "Write the CDI spec of this host's GPUs.",
    "inventory": "Print the facts of this host as JSON.",
    "list": "List the devices that can be asked for.",
    "show": "Show what a container gets for a device.",
    "validate": "Check spec files against the standard.",
    "inject": "Apply devices to an OCI runtime configuration.",
    "engine": "List container engines, and have them take CDI devices.",
    "hook": "Install the programs that engines run when a container starts.",
    "runtime": "Prepare what the runtime shim and the prestart hook apply.",
    "config": "Show how this host is laid out, and where that is said.",
    "explain": "Explain the code of an error or a warning.",
    "completion": "Print the shell's completion script.",
}


class MissingCommandError(click.ClickException):
    """A group was called without a command; the message is the group's help."""


class Group(click.Group):
    """A group that without a command prints its help on standard error, as a usage error.

    click does so from 8.2 on; earlier releases print it on standard output and report success.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, if there are arguments."""
        if not args and not ctx.resilient_parsing:
            raise MissingCommandError(ctx.get_help())
        return super().parse_args(ctx, args)


class Commands(Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of the table."""
        return [*COMMANDS]  # the module cdi_gen.cli.list takes the name of the built-in

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command; ``cdi`` is a group of the same, as in ``nvidia-ctk cdi generate``."""
        if cmd_name == "cdi":
            return CDI
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"cdi_gen.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a mistyped name gets a suggestion."""
        known = (*COMMANDS, "cdi")
        if ctx.resilient_parsing or args[0] in known or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches  # noqa: PLC0415

        close = get_close_matches(args[0], COMMANDS, n=1)
        suggestion = f"; did you mean {close[0]}?" if close else ""
        raise click.UsageError(f"there is no command {args[0]!r}{suggestion}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but Ctrl-C is an error like others: click would print an empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            message = "interrupted; no file was left half-written"
            raise InterruptedByUserError(message) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.command(
    "cdi-gen",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 no NVIDIA driver or GPU, 4 some devices left "
    "out, 5 differs, 6 invalid spec, 7 refused as unsafe, 130 interrupted.",
)
@click.option("-q", "--quiet", is_flag=True, envvar="NVIDIA_CTK_QUIET", help="Print errors only.")
@click.option(
    "-d",
    "--debug",
    is_flag=True,
    envvar="NVIDIA_CTK_DEBUG",
    help="Print also why something was found missing.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="CDI_GEN_LOG_FORMAT",
    help="Form of what is printed on standard error.",
)
@click.option(
    "--config",
    metavar="FILE",
    envvar="CDI_GEN_CONFIG",
    callback=lambda ctx, _, value: ctx.meta.update({CONFIGURATION: value}),
    expose_value=False,
    help="How this host is laid out.  [default: /etc/cdi-gen/config.toml, config.d/*.toml]",
)
@click.version_option(__version__, prog_name="cdi-gen", message="%(prog)s %(version)s")
def main(*, quiet: bool, debug: bool, log_format: str) -> None:
    """Put this host's NVIDIA GPUs into containers.

    \b
      cdi-gen generate -o /etc/cdi/nvidia.json
      podman run --device nvidia.com/gpu=all IMAGE nvidia-smi
    """  # noqa: D301 - \b is click's mark for text that is not to be wrapped
    console.configure(quiet=quiet, debug=debug, json_lines=log_format == "json")


CDI = Commands("cdi", help="The same commands again, as in `nvidia-ctk cdi generate`.")


def run(arguments: list[str]) -> int:
    """Run a command line; every foreseeable fault ends in one line and its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # JSON is UTF-8 whatever the locale; a path of the host goes out as the bytes it is.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        code = main.main(arguments, prog_name="cdi-gen", standalone_mode=False)
        sys.stdout.flush()
    except CdiGenError as error:
        return _failed(error)
    except MissingCommandError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "cdi-gen"
        # click lists the choices of a missing argument a line each.
        message = " ".join(error.format_message().split()).rstrip(".")
        return _failed(UsageError(message, hint=f"see: {where} --help", code="CDG-U001"))
    except click.ClickException as error:
        return _failed(CdiGenError(error.format_message(), code="CDG-U001"), error.exit_code)
    except click.Abort:
        return _failed(InterruptedByUserError("interrupted"))
    except BrokenPipeError:
        _close_stdout()
        return ExitCode.ERROR
    except OSError as error:
        _close_stdout()
        subject = error.filename or "standard output"
        message = f"{subject}: {error.strerror or error}"
        return _failed(CdiGenError(message, code="CDG-X003", subject=str(subject)))
    return code if isinstance(code, int) else ExitCode.OK


def _failed(error: CdiGenError, code: int | None = None) -> int:
    """Print the error, and whether the shell has emptied the file that the data was to go to."""
    hint = error.hint or ""
    emptied = redirected_to_spec()
    if emptied:
        repair = f"the shell has emptied {emptied}; with -o the old file stays if something fails"
        hint = f"{hint}; {repair}" if hint else repair
    console.error(error.message, code=error.code, hint=hint, subject=error.subject)
    return error.exit_code if code is None else code


def _close_stdout() -> None:
    """Keep the interpreter from failing once more when it flushes what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
