# SPDX-License-Identifier: Apache-2.0
"""Step update-ldcache: tell the container's loader of the folders libraries were injected into."""

from __future__ import annotations

import os

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
"""One fixed name: a second start finds its own work. `00-` comes before what the image lists."""

NEW_CONF = f"include {conf.CONF_DIR}/*.conf\n"

TRIPLET = f"{MACHINE}-linux-gnu"
GLIBC_LOADER = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
}.get(MACHINE, "/lib64/ld64.so.2")

MUSL_LOADER = f"/lib/ld-musl-{MACHINE}.so.1"
MUSL_PATH = f"/etc/ld-musl-{MACHINE}.path"
MUSL_DEFAULT = ("/lib", "/usr/local/lib", "/usr/lib")
"""Where musl looks when the file is not there (musl: ldso/dynlink.c)."""

MAX_MUSL_PATH = 64 << 10
MAX_OLD_CACHE = 4 << 20


class Plan:
    """The folders, and what makes the cache if not this program; empty if there is no folder."""

    __slots__ = ("folders", "make_cache")

    def __init__(self, folders: list[str], make_cache: Maker | None) -> None:
        self.folders = folders
        self.make_cache = make_cache

    def __bool__(self) -> bool:
        return bool(self.folders)


def prepare(options: Options) -> Plan:
    """What is asked for.

    Raises:
        UsageError: a folder that is not absolute or that a loader's configuration cannot hold, or
            an ldconfig that is not absolute.
    """
    folders = [checked_folder(folder) for folder in options["--folder"]]
    make_cache: Maker | None = None
    program = last(options["--ldconfig-path"])
    if program is not None:
        # Only who asks for it pays for the sandbox; nothing has been read of the image so far.
        from cdi_hook.ldso import ldconfig  # noqa: PLC0415

        make_cache = ldconfig.maker(program)
    return Plan(list(dict.fromkeys(folders)), make_cache)


def run(rootfs: RootFs, plan: Plan, until: float) -> None:
    """Make the container's loader, glibc's or musl's or both, find what is in the folders."""
    folders = [folder for folder in plan.folders if rootfs.is_directory(folder)]
    driver = Driver(rootfs, folders, _SYSTEM)
    musl = rootfs.status(MUSL_LOADER) is not None
    if not musl or rootfs.status(GLIBC_LOADER) is not None:
        tell_glibc(rootfs, driver, folders, plan.make_cache, until)
    if musl:
        tell_musl(rootfs, driver, folders)


def tell_glibc(
    rootfs: RootFs, driver: Driver, folders: list[str], make_cache: Maker | None, until: float
) -> None:
    """Write the cache, and what a later ldconfig in the container will read.

    In this order: the folder of enable-cuda-compat; links to what of the driver others would hide;
    those of the driver's folders that the image does not list; what it lists; the system's
    directories of every distribution, for the image's own ldconfig knows those unasked.
    """
    listed = conf.directories(rootfs, but=DROP_IN)
    if listed is None:
        rootfs.put(conf.CONF, NEW_CONF.encode())
        listed = []
    compat = conf.directories_of(rootfs, conf.COMPAT)
    known = {*listed, *_loader_defaults(rootfs)}
    ours = [folder for folder in folders if folder not in known]
    order = list(dict.fromkeys((*compat, *ours, *listed, *_SYSTEM)))
    old = _old_cache(rootfs)
    libraries: list[cache_file.Entry] = []
    hwcaps: list[bytes] = []
    if library_directory.FLAGS:
        libraries, hwcaps = shared_libraries.entries(rootfs, order, old, until)
    hidden = precedence.hidden_from_glibc(driver, compat, libraries)
    links = precedence.put_all(rootfs, precedence.GLIBC, hidden)
    if links or ours:
        rootfs.put(DROP_IN, os.fsencode("".join(f"{folder}\n" for folder in (*links, *ours))))
        conf.include_first(rootfs, DROP_IN)
    else:
        # An image that was committed from a container on another host may hold one.
        rootfs.remove(DROP_IN)
    if make_cache:
        at = len(compat)
        content = make_cache(rootfs, [*order[:at], *links, *order[at:]], until)
    else:
        preferred, more = shared_libraries.entries(rootfs, links, None, until)
        content = cache_file.build(
            [*preferred, *libraries],
            [*more, *hwcaps],
            old.generator if old else cache_file.GENERATOR,
        )
    rootfs.put(CACHE, content)


def _old_cache(rootfs: RootFs) -> cache_file.Cache | None:
    try:
        return cache_file.parse(rootfs.read(CACHE, MAX_OLD_CACHE))
    except OSError:
        # None, no regular file, or too large: all libraries are read instead.
        return None


def tell_musl(rootfs: RootFs, driver: Driver, folders: list[str]) -> None:
    """Put links to what others would hide before musl's search path, and append what it lacks."""
    if rootfs.status(MUSL_PATH) is None:
        text = "\n".join(MUSL_DEFAULT) + "\n"
    else:
        text = os.fsdecode(rootfs.read(MUSL_PATH, MAX_MUSL_PATH, world_readable=True))
    first = f"{precedence.MUSL}\n"
    new = text.removeprefix(first)
    known = new.replace(":", "\n").split("\n")
    missing = [folder for folder in folders if folder not in known]
    if missing:
        if new and not new.endswith("\n"):
            new += "\n"
        new += "\n".join(missing) + "\n"
    hidden = precedence.hidden_from_musl(driver, list(dict.fromkeys((*known, *missing))))
    precedence.put(rootfs, precedence.MUSL, hidden)
    if hidden:
        new = first + new
    if missing or new != text:
        rootfs.put(MUSL_PATH, os.fsencode(new))


_MULTIARCH = (f"/lib/{TRIPLET}", f"/usr/lib/{TRIPLET}", "/lib", "/usr/lib")
_LIB64 = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_SYSTEM = tuple(dict.fromkeys((*_MULTIARCH[:2], *_LIB64)))


def _loader_defaults(rootfs: RootFs) -> tuple[str, ...]:
    """Where the image's own loader looks unasked: glibc is told when it is built, beside itself."""
    debian = any(rootfs.status(f"{folder}/libc.so.6") for folder in _MULTIARCH[:2])
    return _MULTIARCH if debian else _LIB64
