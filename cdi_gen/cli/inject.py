# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen inject``."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

import click

from cdi_base import strict_json
from cdi_gen.cdi.inject import inject
from cdi_gen.cdi.names import BadNameError, parse
from cdi_gen.cli import console, named_file
from cdi_gen.cli.host_options import SPEC_DIRECTORIES, TEXT
from cdi_gen.cli.installed_specs import find_specs
from cdi_gen.cli.output import print_data
from cdi_gen.errors import CdiGenError, UsageError

MAX_BYTES = 16 << 20
"""The largest configuration that is read; engines write some 50 kB."""


@click.command("inject")
@click.argument("config", default=".", type=TEXT)
@click.option(
    "--device",
    "names",
    metavar="NAME",
    multiple=True,
    required=True,
    type=TEXT,
    help="Qualified name of a device, as nvidia.com/gpu=0; may be given several times.",
)
@SPEC_DIRECTORIES
@click.option("-o", "--output", metavar="FILE", help="Write to a file.  [default: standard output]")
@click.option("-i", "--in-place", is_flag=True, help="Replace the file that was read.")
def command(
    *,
    config: str,
    names: tuple[str, ...],
    spec_directories: tuple[str, ...],
    output: str | None,
    in_place: bool,
) -> None:
    """Apply devices to CONFIG, an OCI runtime configuration, to run runc or crun without engine.

    CONFIG is a file config.json, a bundle directory with this file, or - for standard input. The
    edits and their order are those of engines. Run the command only once for a configuration,
    because it adds the hooks again each time.

    \b
      runc spec && cdi-gen inject --device nvidia.com/gpu=0 --in-place && runc run NAME
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    if in_place and (output or config == "-"):
        raise UsageError(
            "--in-place conflicts with --output and with standard input as CONFIG",
            code="CDG-U002",
            subject="--in-place",
        )
    for name in names:
        _check(name)
    path = os.path.join(config, "config.json") if os.path.isdir(config) else config
    if in_place and os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(
            f"--in-place: {path} is not a regular file and cannot be replaced",
            code="CDG-U002",
            subject=path,
        )
    document, mode = _read(path)
    specs = find_specs(names, spec_directories)
    edited = inject(document, names, *([spec] for spec, _ in specs))
    text = json.dumps(edited, indent="\t") + "\n"
    destination = path if in_place else output
    if destination and destination != "-":
        _write(destination, text, mode)
    else:
        print_data(text)
    sources = ", ".join(source for _, source in specs)
    console.note(f"applied {', '.join(names)} from {sources}")


def _check(name: str) -> None:
    try:
        parse(name)
    except BadNameError as error:
        raise UsageError(
            f"--device: {error}",
            hint="list the names with: cdi-gen list -o name",
            code="CDG-U009",
            subject="--device",
        ) from error


def _read(path: str) -> tuple[dict[str, Any], int]:
    """Return the document and the mode of the file, which is kept: the text may have secrets."""
    name = named_file.display_name(path)
    text, status = named_file.read(path, MAX_BYTES, hint="make a configuration with: runc spec")
    if len(text) > MAX_BYTES:
        raise CdiGenError(
            f"{name} is larger than {MAX_BYTES >> 20} MiB, too large for a configuration",
            code="CDG-F201",
            subject=name,
        )
    try:
        document = strict_json.parse(text)
    except strict_json.JSONError as error:
        raise CdiGenError(f"{name} is not JSON: {error}", code="CDG-F201", subject=name) from error
    if not isinstance(document, dict) or not isinstance(document.get("ociVersion"), str):
        raise CdiGenError(
            f"{name} is not an OCI runtime configuration: no 'ociVersion'",
            hint="CONFIG is the file config.json of a bundle for runc or crun",
            code="CDG-F201",
            subject=name,
        )
    return document, stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else 0o600


def _write(path: str, text: str, mode: int) -> None:
    from cdi_base.files import replace_file  # noqa: PLC0415

    try:
        replace_file(path, text.encode(), mode=mode)
    except OSError as error:
        raise CdiGenError(
            f"cannot write {path}: {error.strerror}", code="CDG-F004", subject=path
        ) from error
