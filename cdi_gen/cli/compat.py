# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen compat``."""

from __future__ import annotations

import datetime as dt
import json

import click

from cdi_gen.cli.host_options import INVENTORY, TEXT, HostOptions, host_options, inventory_from
from cdi_gen.cli.output import TEXT_OR_JSON, print_data
from cdi_gen.compat import data, report
from cdi_gen.compat.facts import HostFacts, ImageFacts
from cdi_gen.compat.host_facts import host_facts
from cdi_gen.compat.image_facts import image_facts, read_facts, stated_facts
from cdi_gen.compat.verdict import SATISFIED, UNKNOWN, UNSATISFIED, Verdict, verdict
from cdi_gen.errors import ExitCode, NoDriverError, UsageError
from cdi_gen.images.archive import open_archive
from cdi_gen.images.layout import open_rootfs


@click.command("compat")
@click.argument("image", required=False, metavar="[IMAGE]")
@click.option(
    "--rootfs", metavar="DIR", help="A directory with the files of an image.  [default: IMAGE]"
)
@click.option(
    "--archive",
    metavar="FILE",
    help="An archive of `docker save` or `podman save`.  [default: IMAGE]",
)
@click.option("--cuda", metavar="VERSION", type=TEXT, help="Only a CUDA version.  [default: IMAGE]")
@click.option(
    "--require",
    "expression",
    metavar="STRING",
    type=TEXT,
    help="Only an expression of NVIDIA_REQUIRE_CUDA.  [default: IMAGE]",
)
@click.option("--data", "is_about_data", is_flag=True, help="Say how old the tables are.")
@TEXT_OR_JSON
@INVENTORY
@host_options
def command(
    host: HostOptions,
    /,
    *,
    image: str | None,
    rootfs: str | None,
    archive: str | None,
    cuda: str | None,
    expression: str | None,
    is_about_data: bool,
    form: str,
    inventory_path: str | None,
) -> int:
    """Say whether an image's CUDA runs on this host, and why.

    IMAGE is a name or an id in the stores of Docker, Podman or containerd, which are read without
    their daemons; a path (./image.tar, ./layout); or docker://NAME, which skopeo asks for in the
    registry. The driver, the GPUs and the image's CUDA version, compat libraries and code for GPUs
    decide, and not NVIDIA_REQUIRE_CUDA, whose answer is printed beside the verdict.

    The exit code is 0 if the image runs, 1 if it does not, and 4 if that is not known.
    """
    if is_about_data:
        _print_ages(form)
        return ExitCode.OK
    facts = _image(image, rootfs, archive, cuda, expression)
    try:
        inventory = inventory_from(inventory_path, host, requirement_facts=True)
        of_host = host_facts(inventory)
    except NoDriverError:
        of_host = HostFacts()
    answer = verdict(facts, of_host)
    if form == "json":
        document = report.document(answer, facts, of_host)
        print_data(json.dumps(document, indent=2) + "\n")
    else:
        print_data(report.text(answer, facts, of_host))
    return _exit_code(answer, facts)


def _image(
    image: str | None,
    rootfs: str | None,
    archive: str | None,
    cuda: str | None,
    expression: str | None,
) -> ImageFacts:
    """Return the facts of the image that the command line names."""
    sources = {
        "IMAGE": image,
        "--rootfs": rootfs,
        "--archive": archive,
        "--cuda or --require": cuda or expression,
    }
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise UsageError(
            f"{' and '.join(given)} exclude each other" if given else "no image is named",
            hint=f"give one of: {', '.join(sources)}",
            code="CDG-U001",
        )
    if image is not None:
        return read_facts(image)
    if rootfs is not None:
        with open_rootfs(rootfs) as opened:
            return image_facts(opened)
    if archive is not None:
        with open_archive(archive) as opened:
            return image_facts(opened)
    if cuda is not None and data.pair(cuda) is None:
        raise UsageError(
            f"--cuda {cuda!r} is not a version",
            hint="a version is 12.8 or 12.8.1",
            code="CDG-U001",
        )
    return stated_facts(cuda, expression)


def _exit_code(answer: Verdict, facts: ImageFacts) -> ExitCode:
    if answer.kind == UNKNOWN and facts.cuda is None and not facts.name:
        # Only an expression was given, which names no CUDA version: its answer counts.
        codes = {SATISFIED: ExitCode.OK, UNSATISFIED: ExitCode.ERROR}
        return codes.get(answer.requirement, ExitCode.PARTIAL)
    if answer.kind == UNKNOWN:
        return ExitCode.PARTIAL
    return ExitCode.OK if answer.runs else ExitCode.ERROR


def _print_ages(form: str) -> None:
    today = dt.datetime.now(tz=dt.timezone.utc).date()
    if form == "json":
        print_data(json.dumps(report.ages(today), indent=2) + "\n")
    else:
        print_data(report.ages_text(today))
