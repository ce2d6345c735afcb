# SPDX-License-Identifier: Apache-2.0
"""Whether the libraries of the loaded driver are found, and only those of one version."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import distribution, setting
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.errors import CdiGenError, NoDriverError
from cdi_gen.host.platforms import tegra, wsl
from cdi_gen.paths import base_name

DRIVER_ROOTS = ("/run/nvidia/driver", "/home/kubernetes/bin/nvidia")
"""Roots with a whole driver: of the GPU Operator's driver container, of Google's installer."""
LIBRARY = "CDG-H402"
MAX_FILES = 3


def examine(host: Host) -> Iterator[Finding]:
    """Yield why there is no inventory, else the files of other versions."""
    if host.fact("platform", lambda: bool(wsl.detect(host.root) or tegra.detect(host.root))):
        raise NotApplicable("the driver of this platform is another one: see the check platform")
    try:
        inventory = host.inventory
    except NoDriverError as error:
        raise NotApplicable(error.message) from error
    except CdiGenError as error:
        yield _not_found(host, error)
        return
    others = [record for record in inventory.ignored if record.code == LIBRARY]
    if others:
        names = ", ".join(base_name(record.path) for record in others[:MAX_FILES])
        more = f" and {len(others) - MAX_FILES} more" if len(others) > MAX_FILES else ""
        yield Finding(
            LIBRARY,
            "warning",
            f"{len(others)} files of other driver versions are installed beside "
            f"{inventory.require_driver().library_version}: {names}{more}; specs leave them out",
            subject=others[0].path,
            fix="remove the package of the other version: dpkg -S FILE or rpm -qf FILE names it, "
            "and files of no package are NVIDIA's installer's: sudo nvidia-uninstall",
        )


def _not_found(host: Host, error: CdiGenError) -> Finding:
    existing = [
        root
        for root in DRIVER_ROOTS
        if root != host.where.driver_root and host.exists(f"{root}/usr/bin")
    ]
    fix = error.hint or ""
    if error.code == "CDG-H003":
        fix = f"install the driver's libraries: {distribution.commands(host).driver}"
        if existing:
            fix = setting.command("driver-root", existing[0])
    return Finding(error.code, "error", error.message, subject=error.subject, fix=fix)


CHECK = Check(
    "driver-libraries", "driver", "the libraries of one driver version are installed", examine
)
