# SPDX-License-Identifier: Apache-2.0
"""Step enable-cuda-compat: uses an image's newer libcuda on an older driver, if that works.

NVIDIA calls this forward compatibility: /usr/local/cuda/compat in an image has a libcuda of a newer
driver. Its ELF note (since R575) states the drivers and GPUs that it supports; for an older libcuda
its version and the GPUs' brand decide. On an unsupported host CUDA fails with error 803 or 804, so
the step does nothing in case of doubt. Images without this libcuda use the driver's own, which has
minor-version compatibility.
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
"""Brands for which CUDA rejects forward compatibility (error 804), whatever the versions."""


class Host:
    """The facts of the host; false without a version, and then the step does nothing."""

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
    """The ELF note of a compat libcuda: its CUDA version, and the drivers and GPUs it supports."""

    __slots__ = ("brands", "cuda", "drivers")

    def __init__(
        self, cuda: Version | None, drivers: frozenset[int], brands: frozenset[int]
    ) -> None:
        self.cuda = cuda
        self.drivers = drivers
        self.brands = brands


def prepare(options: Options) -> Host:
    """Return the facts of the host in the options.

    Raises:
        UsageError: a brand that NVML does not know, or a directory that is not absolute or that the
            configuration of a loader cannot contain.
    """
    brands = tuple(dict.fromkeys(options["--host-gpu-brand"]))
    for brand in brands:
        if brand not in BRANDS:
            raise UsageError(f"--host-gpu-brand {shown(brand)}: unknown brand")
    return Host(
        versions.parse(last(options["--host-driver-version"]) or ""),
        versions.parse(last(options["--host-cuda-version"]) or ""),
        brands,
        checked_folder(last(options["--cuda-compat-container-root"]) or DIRECTORY),
    )


def run(rootfs: RootFs, host: Host, _until: float) -> None:
    """Put the compat directory first in the loader's configuration, or remove it from there.

    The path is written unresolved; the loader follows symlinks.
    """
    if is_usable(rootfs, host):
        rootfs.put(conf.COMPAT, os.fsencode(f"{host.directory}\n"))
    else:
        # An image that was committed from a container of another host may have the drop-in.
        rootfs.remove(conf.COMPAT)


def is_usable(rootfs: RootFs, host: Host) -> bool:
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
        # The container starts with the driver's own libcuda instead.
        process.say(
            f"enable-cuda-compat: {shown(host.directory)}: not used: {error.strerror}", "CDG-K103"
        )
        return False
    return is_compatible(
        host, versions.parse(name.removeprefix(STEM)), parse_note(text) if text else None
    )


def is_compatible(host: Host, compat: Version | None, note: Note | None) -> bool:
    """Whether to use the compat libcuda; not if the versions that decide are unknown."""
    if note is None:
        # Libraries before R575 have no note.
        if compat is None or host.driver is None:
            return False
        return compat[0] > host.driver[0] and WITHOUT_COMPAT.isdisjoint(host.brands)
    if note.brands and not note.brands.issuperset(map(BRANDS.index, host.brands)):
        return False
    if compat is not None and host.driver is not None:
        return host.driver[0] in note.drivers and compat > host.driver
    return bool(note.cuda and host.cuda and note.cuda > host.cuda)


def parse_note(content: bytes) -> Note | None:
    """Parse the JSON of the note; None if it is invalid, as for a library without a note."""
    try:
        fields = parse_object(content[:MAX_NOTE], "the note of the image's libcuda")
    except HookError as fault:
        process.say(f"enable-cuda-compat: {fault}: not used", "CDG-K103")
        return None
    values = {name.lower(): value for name, value in fields.items()}
    cuda = values.get("cuda version")
    return Note(
        versions.parse(cuda) if isinstance(cuda, str) else None,
        _numbers(values.get("driver")),
        _numbers(values.get("device")),
    )


def _numbers(value: object) -> frozenset[int]:
    if not isinstance(value, list):
        return frozenset()
    return frozenset(number for number in value if isinstance(number, int))


def _library(rootfs: RootFs, directory: str) -> str | None:
    """Return the name of the libcuda.so.N.N in the directory; None if there is not exactly one."""
    try:
        names = rootfs.names(directory)
    except OSError as error:
        if error.errno in NOWHERE:
            return None
        raise
    libraries: list[str] = []
    for name in names:
        if name.startswith(STEM) and "." in name.removeprefix(STEM):
            status = rootfs.status(f"{directory}/{name}")
            if status is not None and stat.S_ISREG(status.st_mode):
                libraries.append(name)
        if len(libraries) > 1:
            process.say(
                f"enable-cuda-compat: {shown(directory)}: not used: "
                f"the directory has several libcuda: {', '.join(map(shown, libraries))}",
                "CDG-K103",
            )
            return None
    return libraries[0] if libraries else None
