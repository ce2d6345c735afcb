# SPDX-License-Identifier: Apache-2.0
"""Step update-ldcache: tell the container's loader of the folders libraries were injected into."""

from __future__ import annotations

import os

from cdi_hook import ldconfig, ldsoconf, sandbox
from cdi_hook.arguments import checked_path
from cdi_hook.faults import UsageError, shown
from cdi_hook.step import Step
from cdi_hook.syscalls import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.arguments import Options
    from cdi_hook.rootfs import RootFs

CACHE = "/etc/ld.so.cache"
DROP_IN = f"{ldsoconf.CONF_DIR}/00-cdi-gen.conf"
"""One fixed name: a second start finds its own work. `00-` comes before what the image lists."""

NEW_CONF = f"include {ldsoconf.CONF_DIR}/*.conf\n"

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


class Plan:
    """The folders, and where to look for ldconfig; empty if there is no folder."""

    __slots__ = ("folders", "ldconfigs")

    def __init__(self, folders: list[str], ldconfigs: tuple[str, ...]) -> None:
        self.folders = folders
        self.ldconfigs = ldconfigs

    def __bool__(self) -> bool:
        return bool(self.folders)


def prepare(options: Options) -> Plan:
    """What is asked for.

    Raises:
        UsageError: a folder that is not absolute or that a loader's configuration cannot hold, or
            an ldconfig that is not absolute.
    """
    folders = [checked_path(folder) for folder in options["--folder"]]
    for folder in folders:
        # ldconfig: a comment, `dir=type`; musl: a separator.
        if set(folder) & set("#=:") or folder != folder.strip():
            raise UsageError(f"--folder {shown(folder)}: no loader can be told of such a name")
    return Plan(
        list(dict.fromkeys(folders)),
        ldconfig.candidates(next(reversed(options["--ldconfig-path"]), None)),
    )


def run(rootfs: RootFs, plan: Plan, until: float) -> None:
    """Make the container's loader, glibc's or musl's or both, find what is in the folders."""
    folders = [folder for folder in plan.folders if rootfs.is_directory(folder)]
    musl = rootfs.status(MUSL_LOADER) is not None
    if musl:
        extend_musl_path(rootfs, folders)
    if not musl or rootfs.status(GLIBC_LOADER) is not None:
        configuration = configure(rootfs, folders)
        program = ldconfig.open_static(plan.ldconfigs)
        cache = sandbox.build_cache(program, rootfs.descriptor, configuration, until)
        rootfs.put(CACHE, cache)


def extend_musl_path(rootfs: RootFs, folders: list[str]) -> None:
    """Append the folders that musl's search path lacks."""
    if rootfs.status(MUSL_PATH) is None:
        text = "\n".join(MUSL_DEFAULT) + "\n"
    else:
        text = os.fsdecode(rootfs.read(MUSL_PATH, MAX_MUSL_PATH))
    known = text.replace(":", "\n").split("\n")
    missing = [folder for folder in folders if folder not in known]
    if missing:
        if text and not text.endswith("\n"):
            text += "\n"
        rootfs.put(MUSL_PATH, os.fsencode(text + "\n".join(missing) + "\n"))


def configure(rootfs: RootFs, folders: list[str]) -> bytes:
    """Write what a later ldconfig in the container will read; return what ours reads now.

    Ours reads: the folders the image does not list, what the image lists, then the system's
    directories of every distribution, since the host's ldconfig knows those of its own alone.
    """
    listed = ldsoconf.directories(rootfs, but=DROP_IN)
    if listed is None:
        rootfs.put(ldsoconf.CONF, NEW_CONF.encode())
        listed = []
    known = {*listed, *_loader_defaults(rootfs)}
    ours = [folder for folder in folders if folder not in known]
    if ours:
        rootfs.put(DROP_IN, _lines(ours))
    else:
        # An image that was committed from a container on another host may hold one.
        rootfs.remove(DROP_IN)
    system = [folder for folder in _SYSTEM if rootfs.is_directory(folder)]
    return _lines(list(dict.fromkeys((*ours, *listed, *system))))


_MULTIARCH = (f"/lib/{TRIPLET}", f"/usr/lib/{TRIPLET}", "/lib", "/usr/lib")
_LIB64 = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_SYSTEM = tuple(dict.fromkeys((*_MULTIARCH[:2], *_LIB64)))


def _loader_defaults(rootfs: RootFs) -> tuple[str, ...]:
    """Where the image's own loader looks unasked: glibc is told when it is built, beside itself."""
    debian = any(rootfs.status(f"{folder}/libc.so.6") for folder in _MULTIARCH[:2])
    return _MULTIARCH if debian else _LIB64


def _lines(folders: list[str]) -> bytes:
    return os.fsencode("".join(f"{folder}\n" for folder in folders))


STEP = Step("update-ldcache", ("--folder", "--ldconfig-path"), prepare, run)
