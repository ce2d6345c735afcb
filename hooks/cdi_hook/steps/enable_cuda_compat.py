# SPDX-License-Identifier: Apache-2.0
"""Step enable-cuda-compat: an image's newer libcuda on an older driver, where that works.

NVIDIA calls it forward compatibility: /usr/local/cuda/compat in an image holds a libcuda of a
newer driver. Whether it runs on this host's driver and GPUs, its ELF note tells (since R575);
before that, its version and the GPUs' brand. Used where it must not be, CUDA fails (errors 803 and
804), so in doubt nothing is done. An image without one is left to minor-version compatibility,
which the driver's own libcuda has.
"""

from __future__ import annotations

import os
import stat

from cdi_base import elf, process, versions
from cdi_base.errors import HookError, UsageError, shown
from cdi_base.nvidia import BRANDS
from cdi_base.rootfs.rootfs import NOWHERE
from cdi_base.strict_json import parse_object
from cdi_hook.arguments import checked_folder, last
from cdi_hook.ldso import conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.rootfs import RootFs
    from cdi_base.versions import Version
    from cdi_hook.arguments import Options

DIRECTORY = "/usr/local/cuda/compat"
STEM = "libcuda.so."
NOTE = b".note.cuda.fwd_compatibility"
MAX_NOTE = 8 << 10

WITHOUT_COMPAT = frozenset({"geforce", "titan", "geforcertx", "titanrtx"})
"""For these CUDA refuses forward compatibility (error 804), whatever the versions."""


class Host:
    """What the host has; empty where nothing is known, and then the step does nothing."""

    __slots__ = ("brands", "cuda", "directory", "driver")

    def __init__(
        self,
        driver: Version | None,
        cuda: Version | None = None,
        brands: tuple[str, ...] = (),
        directory: str = DIRECTORY,
    ) -> None:
        self.driver = driver
        self.cuda = cuda
        self.brands = brands
        self.directory = directory

    def __bool__(self) -> bool:
        return bool(self.driver or self.cuda)


class Note:
    """What a compat library says of itself: for which drivers and GPUs it is, and which CUDA."""

    __slots__ = ("brands", "cuda", "drivers")

    def __init__(
        self, cuda: Version | None, drivers: frozenset[int], brands: frozenset[int]
    ) -> None:
        self.cuda = cuda
        self.drivers = drivers
        self.brands = brands


def prepare(options: Options) -> Host:
    """What the spec says of the host.

    Raises:
        UsageError: a brand that NVML does not know, or a directory that is not absolute or that a
            loader's configuration cannot hold.
    """
    brands = tuple(dict.fromkeys(options["--host-gpu-brand"]))
    for brand in brands:
        if brand not in BRANDS:
            raise UsageError(f"--host-gpu-brand {shown(brand)}: there is no such brand")
    return Host(
        versions.parse(last(options["--host-driver-version"]) or ""),
        versions.parse(last(options["--host-cuda-version"]) or ""),
        brands,
        checked_folder(last(options["--cuda-compat-container-root"]) or DIRECTORY),
    )


def run(rootfs: RootFs, host: Host, _until: float) -> None:
    """Name the compat directory to the loader before all others, or take such a name away.

    By the name that the host gave it: where its links lead, the loader sees for itself.
    """
    if is_of_use(rootfs, host):
        rootfs.put(conf.COMPAT, os.fsencode(f"{host.directory}\n"))
    else:
        # An image that was committed from a container on another host may hold one.
        rootfs.remove(conf.COMPAT)


def is_of_use(rootfs: RootFs, host: Host) -> bool:
    """Whether the image has a libcuda that this host needs and can run."""
    try:
        name = _library(rootfs, host.directory)
        if name is None:
            return False
        descriptor = rootfs.open_file(f"{host.directory}/{name}")
        try:
            text = elf.note(descriptor, NOTE)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Without it the container has the driver's own libcuda, so no container is stopped.
        process.say(
            f"enable-cuda-compat: {shown(host.directory)}: not used: {error.strerror}", "CDG-K103"
        )
        return False
    return decide(host, versions.parse(name.removeprefix(STEM)), parse_note(text) if text else None)


def decide(host: Host, compat: Version | None, note: Note | None) -> bool:
    """The rule. A version that is not known is no reason to use anything."""
    if note is None:
        # Before R575, whose libraries are the first with a note.
        if compat is None or host.driver is None:
            return False
        return compat[0] > host.driver[0] and WITHOUT_COMPAT.isdisjoint(host.brands)
    if note.brands and not note.brands.issuperset(map(BRANDS.index, host.brands)):
        return False
    if compat is not None and host.driver is not None:
        return host.driver[0] in note.drivers and compat > host.driver
    return bool(note.cuda and host.cuda and note.cuda > host.cuda)


def parse_note(content: bytes) -> Note | None:
    """The note's JSON; None if it is none, for then the library is as one without a note."""
    try:
        fields = parse_object(content[:MAX_NOTE], "the note of the image's libcuda")
    except HookError as fault:
        process.say(f"enable-cuda-compat: {fault}: not used", "CDG-K103")
        return None
    known = {name.lower(): value for name, value in fields.items()}
    cuda = known.get("cuda version")
    return Note(
        versions.parse(cuda) if isinstance(cuda, str) else None,
        _numbers(known.get("driver")),
        _numbers(known.get("device")),
    )


def _numbers(value: object) -> frozenset[int]:
    if not isinstance(value, list):
        return frozenset()
    return frozenset(each for each in value if isinstance(each, int))


def _library(rootfs: RootFs, directory: str) -> str | None:
    """The name of the one libcuda.so.N.N in the directory; None if there is none, or a choice."""
    try:
        names = rootfs.names(directory)
    except OSError as error:
        if error.errno in NOWHERE:
            return None
        raise
    found: list[str] = []
    for name in names:
        if name.startswith(STEM) and "." in name.removeprefix(STEM):
            status = rootfs.status(f"{directory}/{name}")
            if status is not None and stat.S_ISREG(status.st_mode):
                found.append(name)
        if len(found) > 1:
            process.say(
                f"enable-cuda-compat: {shown(directory)}: not used: "
                f"it has more than one libcuda: {', '.join(map(shown, found))}",
                "CDG-K103",
            )
            return None
    return found[0] if found else None
