# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen inject``."""

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
from cdi_gen.cli.installed_specs import all_installed
from cdi_gen.cli.output import print_data
from cdi_gen.errors import CdiGenError, UsageError

MAX_BYTES = 16 << 20
"""Of a configuration; an engine's has some 50 kB."""


@click.command("inject")
@click.argument("config", default=".", type=TEXT)
@click.option(
    "--device",
    "names",
    metavar="NAME",
    multiple=True,
    required=True,
    type=TEXT,
    help="Qualified name of a device, nvidia.com/gpu=0; may be given several times.",
)
@SPEC_DIRECTORIES
@click.option("-o", "--output", metavar="FILE", help="Write to a file.  [default: standard output]")
@click.option("-i", "--in-place", is_flag=True, help="Write to the file that was read.")
def command(
    *,
    config: str,
    names: tuple[str, ...],
    spec_directories: tuple[str, ...],
    output: str | None,
    in_place: bool,
) -> None:
    """Apply devices to CONFIG, an OCI runtime configuration: for containers of plain runc or crun.

    CONFIG is a config.json, a bundle that has one, or - for standard input. The edits are those
    that engines apply, in the same order. Do it once: hooks are added again each time.

    \b
      runc spec && cdi-gen inject --device nvidia.com/gpu=0 --in-place && runc run NAME
    """  # noqa: D301 - \b is click's mark for text that is not to be wrapped
    if in_place and (output or config == "-"):
        raise UsageError(
            "--in-place: give CONFIG as a file or a bundle, and no --output",
            code="CDG-U002",
            subject="--in-place",
        )
    for name in names:
        _check(name)
    path = os.path.join(config, "config.json") if os.path.isdir(config) else config
    if in_place and os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(
            f"--in-place: {path} is no regular file, so nothing can be written to it",
            code="CDG-U002",
            subject=path,
        )
    document, mode = _read(path)
    specs = all_installed(names, spec_directories)
    edited = inject(document, names, *([spec] for spec, _ in specs))
    text = json.dumps(edited, indent="\t") + "\n"
    written = path if in_place else output
    if written and written != "-":
        _write(written, text, mode)
    else:
        print_data(text)
    console.note(f"{', '.join(names)} from {', '.join(source for _, source in specs)}")


def _check(name: str) -> None:
    try:
        parse(name)
    except BadNameError as error:
        raise UsageError(
            f"--device: {error}",
            hint="see the names with: cdi-gen list",
            code="CDG-U009",
            subject="--device",
        ) from error


def _read(path: str) -> tuple[dict[str, Any], int]:
    """The document, and the permissions with which it is to be written: it may hold secrets."""
    what = named_file.title(path)
    text, found = named_file.read(path, MAX_BYTES, hint="make one with: runc spec")
    if len(text) > MAX_BYTES:
        raise CdiGenError(
            f"{what}: more than {MAX_BYTES >> 20} MiB is no configuration",
            code="CDG-F201",
            subject=what,
        )
    try:
        document = strict_json.parse(text)
    except strict_json.JSONError as error:
        raise CdiGenError(f"{what} is not JSON: {error}", code="CDG-F201", subject=what) from error
    if not isinstance(document, dict) or not isinstance(document.get("ociVersion"), str):
        raise CdiGenError(
            f"{what} is not an OCI runtime configuration: it has no 'ociVersion'",
            hint="CONFIG is what runc and crun call config.json",
            code="CDG-F201",
            subject=what,
        )
    return document, stat.S_IMODE(found.st_mode) if stat.S_ISREG(found.st_mode) else 0o600


def _write(path: str, text: str, mode: int) -> None:
    from cdi_base.files import replace_file  # noqa: PLC0415

    try:
        replace_file(path, text.encode(), mode=mode)
    except OSError as error:
        raise CdiGenError(
            f"cannot write {path}: {error.strerror}", code="CDG-F004", subject=path
        ) from error
