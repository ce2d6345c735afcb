# SPDX-License-Identifier: Apache-2.0
"""Step update-ldcache: adds the directories of injected libraries to the container's loader."""

from __future__ import annotations

import os
import time

from cdi_base.syscalls import MACHINE
from cdi_hook.arguments import checked_folder, last
from cdi_hook.ldso import cache_file, conf, library_directory, precedence, shared_libraries
from cdi_hook.ldso.precedence import Driver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.arguments import Options
    from cdi_hook.ldso.ldconfig import Maker

CACHE = "/etc/ld.so.cache"
DROP_IN = f"{conf.CONF_DIR}/00-cdi-gen.conf"
"""A fixed name, so that a second start finds the file. `00-` sorts before the image's files."""

NEW_CONF = f"include {conf.CONF_DIR}/*.conf\n"

TRIPLET = f"{MACHINE}-linux-gnu"
GLIBC_LOADER = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
}.get(MACHINE, "/lib64/ld64.so.2")

MUSL_LOADER = f"/lib/ld-musl-{MACHINE}.so.1"
MUSL_PATH = f"/etc/ld-musl-{MACHINE}.path"
MUSL_DEFAULT = ("/lib", "/usr/local/lib", "/usr/lib")
"""Directories that musl searches without the file (musl: ldso/dynlink.c)."""

MAX_MUSL_PATH = 64 << 10
MAX_OLD_CACHE = 4 << 20


class Plan:
    """The directories, and perhaps a function that runs ldconfig; false without a directory."""

    __slots__ = ("folders", "make_cache")

    def __init__(self, folders: list[str], make_cache: Maker | None) -> None:
        self.folders = folders
        self.make_cache = make_cache

    def __bool__(self) -> bool:
        return bool(self.folders)


def prepare(options: Options) -> Plan:
    """Return the plan of the options.

    Raises:
        UsageError: a directory that is not absolute or that the configuration of a loader cannot
            contain, or an ldconfig that is not absolute.
    """
    folders = [checked_folder(folder) for folder in options["--folder"]]
    make_cache: Maker | None = None
    program = last(options["--ldconfig-path"])
    if program is not None:
        # Imported here because few specs need the sandbox. Nothing of the image was read so far.
        from cdi_hook.ldso import ldconfig  # noqa: PLC0415

        make_cache = ldconfig.maker(program)
    return Plan(list(dict.fromkeys(folders)), make_cache)


def run(rootfs: RootFs, plan: Plan, until: float) -> None:
    """Configure the container's loader, of glibc, musl or both, to find the directories."""
    folders = [folder for folder in plan.folders if rootfs.is_directory(folder)]
    driver = Driver(rootfs, folders, _SYSTEM)
    has_musl = rootfs.status(MUSL_LOADER) is not None
    if not has_musl or rootfs.status(GLIBC_LOADER) is not None:
        configure_glibc(rootfs, driver, folders, plan.make_cache, until)
    if has_musl:
        configure_musl(rootfs, driver, folders)


def configure_glibc(
    rootfs: RootFs, driver: Driver, folders: list[str], make_cache: Maker | None, until: float
) -> None:
    """Write the cache, and the configuration for a later ldconfig in the container.

    The order of directories is: that of enable-cuda-compat; links to libraries of the driver that
    others would hide; the driver's directories that the image does not list; those that the image
    lists; the system directories of all distributions, which the image's ldconfig has built in.
    """
    listed = conf.directories(rootfs, excluded=DROP_IN)
    if listed is None:
        rootfs.put(conf.CONF, NEW_CONF.encode())
        listed = []
    compat = conf.directories_of(rootfs, conf.COMPAT)
    searched = {*listed, *_loader_defaults(rootfs)}
    added = [folder for folder in folders if folder not in searched]
    order = list(dict.fromkeys((*compat, *added, *listed, *_SYSTEM)))
    old = _old_cache(rootfs)
    libraries: list[cache_file.Entry] = []
    hwcaps: list[bytes] = []
    if library_directory.FLAGS:
        libraries, hwcaps = shared_libraries.entries(rootfs, order, old, until)
    hidden = precedence.hidden_from_glibc(driver, compat, libraries)
    links = precedence.put_all(rootfs, precedence.GLIBC, hidden)
    if links or added:
        rootfs.put(DROP_IN, os.fsencode("".join(f"{folder}\n" for folder in (*links, *added))))
        conf.include_first(rootfs, DROP_IN)
    else:
        # An image that was committed from a container of another host may have the drop-in.
        rootfs.remove(DROP_IN)
    if make_cache:
        at = len(compat)
        content = make_cache(rootfs, [*order[:at], *links, *order[at:]], until)
    else:
        preferred, preferred_hwcaps = shared_libraries.entries(rootfs, links, None, until)
        content = cache_file.build(
            [*preferred, *libraries],
            [*preferred_hwcaps, *hwcaps],
            old.generator if old else cache_file.GENERATOR,
        )
    rootfs.put(CACHE, content)


def _old_cache(rootfs: RootFs) -> cache_file.Cache | None:
    try:
        status = rootfs.status(CACHE)
        # A time in the future proves nothing about the directories.
        is_past = status is not None and status.st_mtime_ns <= time.time_ns()
        return cache_file.parse(
            rootfs.read(CACHE, MAX_OLD_CACHE), status.st_mtime_ns if status and is_past else 0
        )
    except OSError:
        # The cache is missing, not a regular file, or too large: all libraries are read instead.
        return None


def configure_musl(rootfs: RootFs, driver: Driver, folders: list[str]) -> None:
    """Put links to hidden libraries before musl's search path, and append missing directories."""
    if rootfs.status(MUSL_PATH) is None:
        text = "\n".join(MUSL_DEFAULT) + "\n"
    else:
        text = os.fsdecode(rootfs.read(MUSL_PATH, MAX_MUSL_PATH, world_readable=True))
    first = f"{precedence.MUSL}\n"
    new = text.removeprefix(first)
    searched = new.replace(":", "\n").split("\n")
    missing = [folder for folder in folders if folder not in searched]
    if missing:
        if new and not new.endswith("\n"):
            new += "\n"
        new += "\n".join(missing) + "\n"
    hidden = precedence.hidden_from_musl(driver, list(dict.fromkeys((*searched, *missing))))
    precedence.put(rootfs, precedence.MUSL, hidden)
    if hidden:
        new = first + new
    if missing or new != text:
        rootfs.put(MUSL_PATH, os.fsencode(new))


_MULTIARCH = (f"/lib/{TRIPLET}", f"/usr/lib/{TRIPLET}", "/lib", "/usr/lib")
_LIB64 = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_SYSTEM = tuple(dict.fromkeys((*_MULTIARCH[:2], *_LIB64)))


def _loader_defaults(rootfs: RootFs) -> tuple[str, ...]:
    """Return the directories that are built into the image's loader, beside those it is in."""
    is_debian = any(rootfs.status(f"{folder}/libc.so.6") for folder in _MULTIARCH[:2])
    return _MULTIARCH if is_debian else _LIB64
