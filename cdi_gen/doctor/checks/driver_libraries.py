# SPDX-License-Identifier: Apache-2.0
"""Whether the libraries of the loaded driver are found, and only those of one version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from shlex import quote
from typing import Any

from cdi_base import ld_so_cache, versions
from cdi_base.findings import Finding
from cdi_gen.doctor import distribution, setting
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.errors import CdiGenError, NoDriverError
from cdi_gen.host.platforms import tegra, wsl
from cdi_gen.inventory import Inventory
from cdi_gen.paths import base_name, parent
from cdi_gen.refresh import agreement

DRIVER_ROOTS = ("/run/nvidia/driver", "/home/kubernetes/bin/nvidia")
"""Roots with a whole driver: of the GPU Operator's driver container, of Google's installer."""
DIRECTORIES = tuple(
    f"/usr/{name}"
    for name in ("lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "local/lib")
)
"""Where packages and NVIDIA's installer leave the libraries of a former driver."""

CACHE = "/etc/ld.so.cache"
MAX_CACHE_BYTES = 16 << 20


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
    driver = inventory.require_driver()
    yield from _first_in_cache(host, driver.library_version)
    others: list[str] = host.fact("other drivers", lambda: _others(host, inventory))
    if others:
        yield Finding(
            "CDG-A022",
            "warning",
            f"libraries of other drivers ({', '.join(others)}) are installed beside those of "
            f"{driver.library_version}; specs leave them out, other toolkits may mix them",
            subject="driver",
            fix="dpkg -S '*libcuda.so*' || rpm -qa '*nvidia*'  # the packages; remove the other "
            "driver's; files of no package are NVIDIA's installer's: sudo nvidia-uninstall",
        )


def _first_in_cache(host: Host, version: str) -> Iterator[Finding]:
    """Yield that the host's loader takes libcuda of another version, as of a compat package."""
    content = host.read(CACHE, MAX_CACHE_BYTES)
    if content is None:
        return
    try:
        paths = [
            os.fsdecode(path)
            for flags, name, path, _ in ld_so_cache.entries_of(content)
            if name == b"libcuda.so.1" and flags >> 8
        ]
    except ld_so_cache.CacheError:
        return  # the check driver-files tells of a driver that is not found
    # Flags without an architecture are those of 32-bit libraries on x86.
    target = host.link(paths[0]) if paths else None
    found = base_name(target or "").removeprefix("libcuda.so.")
    if target and versions.parse(found) and found != version:
        directory = parent(paths[0])
        yield Finding(
            "CDG-A025",
            "error",
            f"the loader of this host takes {paths[0]} of {found}, the driver is {version}: CUDA "
            "fails with 803 (system has unsupported display driver / cuda driver combination)",
            subject=paths[0],
            fix=f"grep -rl {quote(directory)} /etc/ld.so.conf /etc/ld.so.conf.d  # remove the line "
            "with the directory, or the files of the other version; then: sudo ldconfig",
        )


def _others(host: Host, inventory: Inventory) -> Any:
    """Return the versions in the names of libraries that are not of the driver in use."""
    driver = inventory.require_driver()
    paths = [library.path for library in inventory.libraries]
    directories = {*DIRECTORIES, *map(parent, paths)}
    prefix = host.where.host_root.rstrip("/")
    versions = agreement.other_versions(directories, paths, driver.library_version, prefix)
    return [*versions]


def _not_found(host: Host, error: CdiGenError) -> Finding:
    existing = [
        root
        for root in DRIVER_ROOTS
        if root != host.where.driver_root and host.exists(f"{root}/usr/bin")
    ]
    fix = error.hint or ""
    if error.code == "CDG-H003":
        branch = module.version.partition(".")[0] if (module := host.driver_module) else ""
        fix = distribution.commands(host).libraries.format(branch)
        if existing:
            fix = setting.command("driver-root", existing[0])
    return Finding(error.code, "error", error.message, subject=error.subject, fix=fix)


CHECK = Check(
    "driver-libraries", "driver", "the libraries of one driver version are installed", examine
)
