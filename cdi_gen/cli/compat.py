# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen compat``."""

from __future__ import annotations

import datetime as dt
import json

import click

from cdi_gen.cli.compat_output import FORMAT, FORMATS, JSON, OUTPUT, targets
from cdi_gen.cli.compat_output import TEXT as TEXT_FORM
from cdi_gen.cli.host_options import (
    INVENTORY,
    TEXT,
    HostOptions,
    host_options,
    inventory_from,
    reject_locations,
)
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
@click.option(
    "--inventories",
    "directory",
    metavar="DIR",
    help="The hosts of a fleet: a file HOST.json of `cdi-gen inventory` for each.  "
    "[default: this host]",
)
@click.option(
    "--images",
    "list_path",
    metavar="LIST",
    help="The images of a fleet: a file (-: standard input) with an image on each line.  "
    "[default: IMAGE]",
)
@click.option(
    "--pin",
    "lock_path",
    metavar="FILE",
    help="Write the drivers, GPUs and digests of the fleet to a lock file; if it exists, exit with "
    "5 unless the fleet is as it says.  [default: no file]",
)
@click.option("--update-pin", is_flag=True, help="Write the lock file although it exists.")
@OUTPUT
@FORMAT
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
    directory: str | None,
    list_path: str | None,
    lock_path: str | None,
    update_pin: bool,
    outputs: tuple[str, ...],
    form: str | None,
    inventory_path: str | None,
) -> int:
    """Say whether an image's CUDA runs on this host, and why; or images on the hosts of a fleet.

    IMAGE is a name or an id in the stores of Docker, Podman or containerd, which are read without
    their daemons; a path (./image.tar, ./layout); or docker://NAME, which skopeo asks for in the
    registry. The driver, the GPUs and the image's CUDA version, compat libraries and code for GPUs
    decide, and not NVIDIA_REQUIRE_CUDA, whose answer is printed beside the verdict.

    \b
      cdi-gen compat nvidia/cuda:12.8.1-base-ubuntu24.04
      cdi-gen compat --inventories hosts/ --images images.txt -o fleet.html -o fleet.xml

    The exit code is 0 if all images run on all hosts, 1 if one does not, 4 if that is not known of
    one, and 5 if the fleet differs from the lock file.
    """  # noqa: D301 - \b tells click not to wrap the paragraph
    if directory is not None or list_path is not None:
        alone = (image, rootfs, archive, cuda, expression, inventory_path)
        _reject_with_fleet(alone, is_about_data=is_about_data)
        if directory is None or list_path is None:
            raise UsageError(
                "a fleet needs both --inventories and --images",
                hint="cdi-gen compat --inventories DIR --images LIST",
                code="CDG-U001",
            )
        if update_pin and lock_path is None:
            raise UsageError(
                "--update-pin writes the file of --pin, which is not given",
                hint="--pin FILE --update-pin",
                code="CDG-U001",
            )
        reject_locations()
        from cdi_gen.cli import compat_fleet  # noqa: PLC0415 - not for one image

        lock_file = None if lock_path is None else compat_fleet.LockFile(lock_path, update_pin)
        return compat_fleet.run(directory, list_path, targets(outputs, form, FORMATS), lock_file)
    if lock_path is not None or update_pin:
        raise UsageError(
            "--pin is only for fleets",
            hint="cdi-gen compat --inventories DIR --images LIST --pin FILE",
            code="CDG-U001",
        )
    destinations = targets(outputs, form, (TEXT_FORM, JSON))
    if is_about_data:
        for target in destinations:
            target.write(_ages(target.form))
        return ExitCode.OK
    facts = _image(image, rootfs, archive, cuda, expression)
    try:
        inventory = inventory_from(inventory_path, host, requirement_facts=True)
        of_host = host_facts(inventory)
    except NoDriverError:
        of_host = HostFacts()
    answer = verdict(facts, of_host)
    for target in destinations:
        if target.form == JSON:
            document = report.document(answer, facts, of_host)
            target.write(json.dumps(document, indent=2) + "\n")
        else:
            target.write(report.text(answer, facts, of_host))
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


def _reject_with_fleet(alone: tuple[str | None, ...], *, is_about_data: bool) -> None:
    if is_about_data or any(value is not None for value in alone):
        raise UsageError(
            "--inventories and --images exclude --inventory, --data and a single image",
            hint="name the image in the list, and put the inventory into the directory",
            code="CDG-U001",
        )


def _ages(form: str) -> str:
    today = dt.datetime.now(tz=dt.timezone.utc).date()
    if form == JSON:
        return json.dumps(report.ages(today), indent=2) + "\n"
    return report.ages_text(today)
