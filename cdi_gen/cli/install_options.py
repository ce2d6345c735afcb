# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that install the programs of engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from cdi_gen.cli.host_options import DIRECTORY, PROGRAM

Command = TypeVar("Command", bound=Callable[..., object])

ROOT = click.option(
    "--root",
    type=DIRECTORY,
    default="/",
    show_default=True,
    help="Directory that becomes / of the host: of a package or of an image that is built.",
)

_OPTIONS = (
    click.option(
        "--prefix",
        type=DIRECTORY,
        default="/usr/local",
        show_default=True,
        help="Directory of the installation.",
    ),
    ROOT,
    click.option(
        "--python",
        type=PROGRAM,
        default="/usr/bin/python3",
        show_default=True,
        help="Interpreter of the programs; it must belong to root.",
    ),
    click.option(
        "--nvidia-cdi-hook",
        "as_hook",
        is_flag=True,
        help="Also link the hook as PREFIX/bin/nvidia-cdi-hook: for dockerd, which maps --gpus to "
        "CDI only if this program exists, and for specs of nvidia-ctk.",
    ),
    click.option(
        "--nvidia-container-runtime",
        "as_runtime",
        is_flag=True,
        help="Also link the runtime shim as PREFIX/bin/nvidia-container-runtime: for engines that "
        "are configured with this name.",
    ),
    click.option(
        "--nvidia-container-runtime-hook",
        "as_prestart",
        is_flag=True,
        help="Also link the prestart hook as PREFIX/bin/nvidia-container-runtime-hook: for "
        "dockerd, which runs this program for --gpus if it does not map --gpus to CDI.",
    ),
)


def install_options(command: Command) -> Command:
    """Add the place of an installation, and links under the names of NVIDIA's programs.

    The parameters are `prefix`, `root`, `python`, and for the links in the order of
    `programs.install.LINKS`: `as_hook`, `as_runtime`, `as_prestart`.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
