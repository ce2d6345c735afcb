# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen inventory``."""

from __future__ import annotations

import click

from cdi_gen.cli.host_options import HostOptions, host_options, look
from cdi_gen.cli.output import print_data
from cdi_gen.errors import ExitCode


@click.command("inventory")
@click.option("-o", "--output", metavar="FILE", help="Write to a file.  [default: standard output]")
@click.option(
    "--requirement-facts",
    is_flag=True,
    help="Ask libcuda and NVML for what images ask for in NVIDIA_REQUIRE_*, too.",
)
@host_options
def command(host: HostOptions, /, *, output: str | None, requirement_facts: bool) -> int:
    """Print the facts of this host as JSON.

    The same facts give the same text. There are no secrets in it: device numbers, UUIDs, PCI
    addresses and the driver's files. `cdi-gen generate --inventory FILE` makes of it, anywhere,
    the spec that it would make here.
    """
    from cdi_gen.inventory.json_form import dump  # noqa: PLC0415

    inventory = look(host, requirement_facts=requirement_facts)
    text = dump(inventory)
    if output and output != "-":
        from cdi_gen.store import write_text  # noqa: PLC0415

        write_text(text, output)
    else:
        print_data(text)
    return ExitCode.PARTIAL if inventory.unusable_devices else ExitCode.OK
