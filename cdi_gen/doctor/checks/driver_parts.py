# SPDX-License-Identifier: Apache-2.0
"""Whether the driver's libraries and files are complete for the capabilities that the host has.

A driver may be installed in parts: a server without graphics is no fault, and is only noted. A part
that is incomplete is one: a library that opens another by its name (`libEGL_nvidia` opens
`libnvidia-eglcore`) or that needs a file (a Vulkan or OpenCL ICD) fails in containers, and programs
then use Mesa's software renderer without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cdi_base.findings import Finding
from cdi_gen.doctor import driver_packages
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import DGPU, Inventory


class Part(NamedTuple):
    """Libraries or modules that belong together."""

    title: str
    """What programs do with them."""
    libraries: tuple[str, ...]
    """Their names up to ``.so``."""


PARTS = (
    Part(
        "EGL and OpenGL",
        (
            *("libEGL_nvidia", "libGLX_nvidia", "libnvidia-eglcore", "libnvidia-glcore"),
            *("libnvidia-glsi", "libnvidia-tls"),
        ),
    ),
    Part("NVENC and NVDEC", ("libnvidia-encode", "libnvcuvid")),
    Part("OptiX", ("libnvoptix",)),
    Part("OpenCL", ("libnvidia-opencl",)),
    Part("an X server", ("nvidia_drv", "libglxserver_nvidia")),
)

MISSING = frozenset({"CDG-H203", "CDG-H204"})


def examine(host: Host) -> Iterator[Finding]:
    """Yield files that others need, parts that are incomplete, and parts that are not there."""
    try:
        inventory = host.inventory
    except CdiGenError as error:
        raise NotApplicable(error.message) from error
    if inventory.platform != DGPU:
        raise NotApplicable("the driver of this platform has other files")
    yield from _missing_files(host, inventory)
    yield from _incomplete_parts(host, inventory)


def _missing_files(host: Host, inventory: Inventory) -> Iterator[Finding]:
    reasons: dict[str, str] = {}
    for record in inventory.missing:
        if record.code in MISSING:
            reasons.setdefault(record.name, f"{record.reason}#{record.code}")
    for name, reason in reasons.items():
        message, _, code = reason.partition("#")
        yield Finding(
            code,
            "warning",
            f"the driver lacks {name}: {message}; no container gets it",
            subject=name,
            fix=driver_packages.installation(host, inventory, name),
        )


def _incomplete_parts(host: Host, inventory: Inventory) -> Iterator[Finding]:
    paths = [library.path for library in inventory.libraries if library.bits == 64]
    paths += [file.path for file in inventory.files]
    stems = {path.rpartition("/")[2].partition(".so")[0] for path in paths}
    needed = {record.name.partition(".")[0] for record in inventory.missing}
    for part in PARTS:
        missing = [name for name in part.libraries if name not in stems]
        if len(missing) == len(part.libraries):
            yield Finding(
                "CDG-G104",
                "info",
                f"the driver is installed without {part.title}: containers have no "
                f"{part.libraries[0]}",
                subject=part.title,
                fix=driver_packages.installation(host, inventory, *part.libraries),
            )
            continue
        for name in missing:
            if name not in needed:
                yield Finding(
                    "CDG-H203",
                    "warning",
                    f"the driver lacks {name}, which its other libraries for {part.title} open; "
                    "programs in containers fail, or use a software renderer",
                    subject=name,
                    fix=driver_packages.installation(host, inventory, name),
                )


CHECK = Check("driver-parts", "driver", "each part of the driver is complete", examine)
