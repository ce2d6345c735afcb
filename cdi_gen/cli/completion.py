# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen completion``."""

from __future__ import annotations

import click

from cdi_gen.cli.output import print_data


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
def command(*, shell: str) -> None:
    """Print the completion script for a shell.

    \b
      cdi-gen completion bash > /usr/share/bash-completion/completions/cdi-gen
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    from cdi_gen.cli import main  # noqa: PLC0415

    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise click.UsageError(f"no completion for {shell}")
    completion = completion_class(main, {}, "cdi-gen", "_CDI_GEN_COMPLETE")
    if shell == "bash":
        # click's source() starts bash to check that its version is at least 4.4; not needed here.
        print_data(completion.source_template % completion.source_vars())
    else:
        print_data(completion.source())
