# SPDX-License-Identifier: Apache-2.0
"""Step enable-cuda-compat: uses an image's newer libcuda on an older driver, if that works.

NVIDIA calls this forward compatibility: /usr/local/cuda/compat in an image has a libcuda of a newer
driver. `cdi_base.forward_compatibility` has the rule. Images without this libcuda use the driver's
own, which has minor-version compatibility.
"""

from __future__ import annotations

import os
import stat

from cdi_base import elf, forward_compatibility, process, versions
from cdi_base.errors import HookError, UsageError, shown
from cdi_base.forward_compatibility import DIRECTORY, SECTION, STEM, rejection
from cdi_base.nvidia import BRANDS
from cdi_base.rootfs.rootfs import NOWHERE
from cdi_hook.arguments import checked_folder, last
from cdi_hook.ldso import conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.forward_compatibility import Note
    from cdi_base.rootfs.rootfs import RootFs
    from cdi_base.versions import Version
    from cdi_hook.arguments import Options


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
            text = elf.note(descriptor, SECTION)
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
    reason = rejection(compat, note, driver=host.driver, cuda=host.cuda, brands=host.brands)
    return reason is None


def parse_note(content: bytes) -> Note | None:
    """Parse the JSON of the note; None if it is invalid, as for a library without a note."""
    try:
        return forward_compatibility.parse_note(content)
    except HookError as fault:
        process.say(f"enable-cuda-compat: {fault}: not used", "CDG-K103")
        return None


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
