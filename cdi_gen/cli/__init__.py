# SPDX-License-Identifier: Apache-2.0
"""The command line: each command parses, calls and prints; the work is done elsewhere.

A command's module is imported when that command runs, so that none pays for the others.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from cdi_gen import __version__
from cdi_gen.cli import talk
from cdi_gen.errors import CdiGenError, ExitCode

COMMANDS = {
    "generate": "Write the CDI spec of this host's GPUs.",
    "inventory": "Print the facts of this host as JSON.",
    "list": "List the devices that can be asked for.",
    "show": "Show what a container gets for a device.",
    "validate": "Check spec files against the standard.",
    "hook": "Install the program that engines run when a container starts.",
    "completion": "Print the shell's completion script.",
}


class Commands(click.Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command; ``cdi`` is this group again, as in ``nvidia-ctk cdi generate``."""
        if cmd_name == "cdi":
            return main
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"cdi_gen.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


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
    help="Print what was found missing, and tracebacks of our own faults.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="CDI_GEN_LOG_FORMAT",
    help="Form of what is printed on standard error.",
)
@click.version_option(__version__, prog_name="cdi-gen", message="%(prog)s %(version)s")
def main(*, quiet: bool, debug: bool, log_format: str) -> None:
    """Put this host's NVIDIA GPUs into containers.

    \b
      cdi-gen generate -o /etc/cdi/nvidia.json
      podman run --device nvidia.com/gpu=all IMAGE nvidia-smi
    """  # noqa: D301 - \b is click's mark for text that is not to be wrapped
    talk.configure(quiet=quiet, debug=debug, json_lines=log_format == "json")


def run(arguments: list[str]) -> int:
    """Run a command line; every foreseeable fault ends in one line and its exit code."""
    try:
        code = main.main(arguments, prog_name="cdi-gen", standalone_mode=False)
        sys.stdout.flush()
    except CdiGenError as error:
        talk.error(error.message, hint=error.hint)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return ExitCode.USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "cdi-gen"
        talk.error(error.format_message().rstrip("."), hint=f"see: {where} --help")
        return ExitCode.USAGE
    except click.ClickException as error:
        talk.error(error.format_message())
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        talk.error("interrupted; nothing was changed")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return ExitCode.ERROR
    except OSError as error:
        _close_stdout()
        where = f"{error.filename}: " if error.filename else ""
        talk.error(f"{where}{error.strerror or error}")
        return ExitCode.ERROR
    return code if isinstance(code, int) else ExitCode.OK


def _close_stdout() -> None:
    """Keep the interpreter from failing once more when it flushes what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
