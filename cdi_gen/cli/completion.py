# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen completion``."""

from __future__ import annotations

import click

from cdi_gen.cli.output import print_data


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
def command(*, shell: str) -> None:
    """Print the completion script of a shell.

    \b
      cdi-gen completion bash > /usr/share/bash-completion/completions/cdi-gen
    """  # noqa: D301 - \b is click's mark for text that is not to be wrapped
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    from cdi_gen.cli import main  # noqa: PLC0415

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    completion = kind(main, {}, "cdi-gen", "_CDI_GEN_COMPLETE")
    if shell == "bash":
        # click's own source() starts bash to ask for its version; the script needs 4.4.
        print_data(completion.source_template % completion.source_vars())
    else:
        print_data(completion.source())
