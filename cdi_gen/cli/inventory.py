# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen inventory``."""

from __future__ import annotations

import click

from cdi_gen.cli.host_options import HostOptions, gather_inventory, host_options
from cdi_gen.cli.output import print_data
from cdi_gen.errors import ExitCode


@click.command("inventory")
@click.option("-o", "--output", metavar="FILE", help="Write to a file.  [default: standard output]")
@click.option(
    "--requirement-facts",
    is_flag=True,
    help="Add the facts that images check with NVIDIA_REQUIRE_*, from libcuda and NVML.",
)
@host_options
def command(host: HostOptions, /, *, output: str | None, requirement_facts: bool) -> int:
    """Print the facts of this host as JSON.

    The same facts give the same text. The text has no secrets, only device numbers, UUIDs, PCI
    addresses and the driver's files. `cdi-gen generate --inventory FILE` writes the spec of this
    host on any other host.
    """
    from cdi_gen.inventory.json_form import dump  # noqa: PLC0415

    inventory = gather_inventory(host, requirement_facts=requirement_facts)
    text = dump(inventory)
    if output and output != "-":
        from cdi_gen.store import write_text  # noqa: PLC0415

        write_text(text, output)
    else:
        print_data(text)
    return ExitCode.PARTIAL if inventory.unusable_devices else ExitCode.OK
