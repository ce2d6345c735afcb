# SPDX-License-Identifier: Apache-2.0
"""The command line of cdi-gen: parses arguments, calls the packages that do the work, and prints.

The module of a command is imported when the command runs, to keep the start-up time short.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

import click

from cdi_gen import __version__
from cdi_gen.cli import console
from cdi_gen.cli.output import redirected_to_spec
from cdi_gen.errors import CdiGenError, ExitCode, InterruptedByUserError, UsageError

CONFIGURATION = "cdi_gen.config"
"""The key of `click.Context.meta` for the value of `--config`."""

COMMANDS = {
    "generate": "Write the CDI spec of this host's GPUs.",
    "refresh": "Bring the CDI specs of this host up to date.",
    "check": "Check whether the installed specs describe this host.",
    "doctor": "Examine this host: what is wrong, and what to do.",
    "diff": "Compare hosts, inventories and specs.",
    "inventory": "Print the facts of this host as JSON.",
    "list": "List the devices that a container can request.",
    "show": "Show what a container gets for a device.",
    "why": "Say why a container gets no GPU.",
    "who": "Show which container has which GPU.",
    "metrics": "Serve metrics of GPUs and containers for Prometheus.",
    "top": "Show what containers do with GPUs, in a terminal.",
    "compat": "Say whether an image's CUDA runs on this host.",
    "validate": "Check spec files against the standard.",
    "inject": "Apply devices to an OCI runtime configuration.",
    "engine": "List container engines, and configure them for CDI devices.",
    "hook": "Install the programs that engines run when a container starts.",
    "runtime": "Prepare the specs for the runtime shim and the prestart hook.",
    "install": "Install programs and units on this host or in an image.",
    "uninstall": "Remove what `cdi-gen install` installed.",
    "kubernetes": "Make this host a GPU node of a Kubernetes cluster.",
    "watch": "Keep the specs right while the host changes.",
    "system": "Create the driver's device nodes, and links to them.",
    "config": "Show the settings for this host, and their sources.",
    "explain": "Explain the code of an error or a warning.",
    "completion": "Print the completion script for a shell.",
}


class MissingCommandError(click.ClickException):
    """A group was called without a command; the message is the group's help."""


class Group(click.Group):
    """A group that prints its help on standard error if it is called without a command.

    That is a usage error. click before 8.2 prints the help on standard output and exits with 0.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments as click does; reject an empty command line."""
        if not args and not ctx.resilient_parsing:
            raise MissingCommandError(ctx.get_help())
        return super().parse_args(ctx, args)


class Commands(Group):
    """A group that imports the module of a command on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the table."""
        return [*COMMANDS]  # not list(): the module cdi_gen.cli.list hides the built-in here

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command; ``cdi`` is a group with the same commands, as in nvidia-ctk."""
        if cmd_name == "cdi":
            return CDI
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"cdi_gen.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve the command as click does, and suggest a name for a mistyped one."""
        names = (*COMMANDS, "cdi")
        if ctx.resilient_parsing or args[0] in names or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches  # noqa: PLC0415

        matches = get_close_matches(args[0], COMMANDS, n=1)
        suggestion = f"; did you mean {matches[0]}?" if matches else ""
        raise click.UsageError(f"unknown command {args[0]!r}{suggestion}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command as click does; report Ctrl-C like other errors."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            message = "interrupted; no incomplete file is left behind"
            raise InterruptedByUserError(message) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.command(
    "cdi-gen",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 no NVIDIA driver or GPU, 4 written without some "
    "devices, 5 differs or held back, 6 invalid spec, 7 refused as unsafe, 130 interrupted.",
)
@click.option("-q", "--quiet", is_flag=True, envvar="NVIDIA_CTK_QUIET", help="Print errors only.")
@click.option(
    "-d",
    "--debug",
    is_flag=True,
    envvar="NVIDIA_CTK_DEBUG",
    help="Print also why a device or a file is missing.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="CDI_GEN_LOG_FORMAT",
    help="Format of the messages on standard error.",
)
@click.option(
    "--config",
    metavar="FILE",
    envvar="CDI_GEN_CONFIG",
    callback=lambda ctx, _, value: ctx.meta.update({CONFIGURATION: value}),
    expose_value=False,
    help="File with settings for the layout of this host.  [default: /etc/cdi-gen/config.toml, "
    "config.d/*.toml]",
)
@click.version_option(__version__, prog_name="cdi-gen", message="%(prog)s %(version)s")
def main(*, quiet: bool, debug: bool, log_format: str) -> None:
    """Put this host's NVIDIA GPUs into containers.

    \b
      cdi-gen generate -o /etc/cdi/nvidia.json
      podman run --device nvidia.com/gpu=all IMAGE nvidia-smi
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    console.configure(quiet=quiet, debug=debug, json_lines=log_format == "json")


def _command_path(arguments: list[str]) -> str:
    """Return the command of a command line: click does not name it if an option lacks its value."""
    return next((f"cdi-gen {word}" for word in arguments if word in COMMANDS), "cdi-gen")


CDI = Commands("cdi", help="The same commands, for command lines of `nvidia-ctk cdi`.")


def run(arguments: list[str]) -> int:
    """Run a command line and return the exit code; print each expected error in one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # JSON is UTF-8 in any locale, and the bytes of the host's paths are written unchanged.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        code = main.main(arguments, prog_name="cdi-gen", standalone_mode=False)
        sys.stdout.flush()
    except CdiGenError as error:
        return _report(error)
    except MissingCommandError as error:
        console.write(f"{error.format_message()}\n")
        return ExitCode.USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else _command_path(arguments)
        # click puts each choice of a missing argument on a line of its own.
        message = " ".join(error.format_message().split()).rstrip(".")
        return _report(UsageError(message, hint=f"see: {command} --help", code="CDG-U001"))
    except click.ClickException as error:
        return _report(CdiGenError(error.format_message(), code="CDG-U001"), error.exit_code)
    except click.Abort:
        return _report(InterruptedByUserError("interrupted"))
    except BrokenPipeError:
        console.discard(1)
        return ExitCode.ERROR
    except OSError as error:
        console.discard(1)
        subject = error.filename or "standard output"
        message = f"{subject}: {error.strerror or error}"
        return _report(CdiGenError(message, code="CDG-X003", subject=str(subject)))
    return code if isinstance(code, int) else ExitCode.OK


def _report(error: CdiGenError, exit_code: int | None = None) -> int:
    """Print the error and return the exit code.

    If the shell's redirection has emptied a spec file, the hint says so.
    """
    hint = error.hint or ""
    spec_file = redirected_to_spec()
    if spec_file:
        warning = f"the shell has emptied {spec_file}; with -o the old file is kept after an error"
        hint = f"{hint}; {warning}" if hint else warning
    console.error(error.message, code=error.code, hint=hint, subject=error.subject)
    return error.exit_code if exit_code is None else exit_code
