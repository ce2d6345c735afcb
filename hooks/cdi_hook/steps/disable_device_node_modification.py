# SPDX-License-Identifier: Apache-2.0
"""Step disable-device-node-modification: the driver's libraries make no device nodes here.

They read ModifyDeviceFiles in /proc/driver/nvidia/params; where it is 1, a container's root that
may use mknod gets a node for every GPU of the host. (What it may open is the device cgroup's to
say.) So a file that says 0 is mounted over that one, in the container's own procfs.
"""

from __future__ import annotations

import errno
import os

from cdi_base import syscalls
from cdi_base.errors import HookError, SkippedError
from cdi_base.files import read_beginning, same_file
from cdi_base.rootfs.rootfs import NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.arguments import Options

FOLDER, FILE = "driver/nvidia", "params"
"""Below /proc."""

MAX_PARAMS = 64 << 10

_ENABLED, _DISABLED = b"ModifyDeviceFiles: 1", b"ModifyDeviceFiles: 0"


def prepare(options: Options) -> bool:
    """Whether it is asked for."""
    return bool(options["--disable-device-node-modification"])


def run(rootfs: RootFs, _asked: bool, _until: float) -> None:
    """Cover the container's params, if the driver's say 1.

    Raises:
        SkippedError: the container has no procfs of its own, its params are covered already, or
            nothing may be mounted here.
    """
    harmless = disabled(of_the_driver())
    if harmless is None:
        return
    place = _Place(rootfs)
    rootfs.report_change(f"cover /proc/{FOLDER}/{FILE} with one that says {_DISABLED.decode()}")
    if rootfs.is_dry_run:
        return
    if _in_the_machines_mounts():
        # Not in a container: the mount would stay when everything has gone.
        raise SkippedError("this process is in no container's mount namespace")
    try:
        place.cover(harmless)
    except PermissionError as error:
        raise SkippedError(f"nothing may be mounted here: {error.strerror}") from None


def disabled(params: bytes) -> bytes | None:
    """The parameters with ModifyDeviceFiles off; None if it is not on."""
    lines = params.split(b"\n")
    if _ENABLED not in lines:
        return None
    return b"\n".join(_DISABLED if line == _ENABLED else line for line in lines)


def of_the_driver() -> bytes:
    """The parameters of this machine's driver; empty without one."""
    try:
        return read_beginning("/proc/driver/nvidia/params", MAX_PARAMS)
    except (FileNotFoundError, NotADirectoryError):
        return b""


def _in_the_machines_mounts() -> bool:
    here = os.stat("/proc/self/ns/mnt")
    try:
        return same_file(here, os.stat("/proc/1/ns/mnt"))
    except (PermissionError, FileNotFoundError):
        # Only root sees where process 1 is; for others the kernel decides what they may mount.
        return False


class _Place:
    """The params in the container's own procfs: all of one mount, and reached through no link."""

    def __init__(self, rootfs: RootFs) -> None:
        """Open them, as `O_PATH`.

        Raises:
            SkippedError: the container has none, or something covers them.
        """
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._proc = os.open("proc", flags, dir_fd=rootfs.descriptor)
            if syscalls.file_system(self._proc) != syscalls.PROC_SUPER_MAGIC:
                raise SkippedError("the container's /proc is no procfs")
            self._folder = rootfs.find_within(self._proc, FOLDER)
            self._file = rootfs.find_within(self._proc, f"{FOLDER}/{FILE}")
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise SkippedError(f"the container's /proc/{FOLDER} is covered already") from None
            if error.errno in NOWHERE:
                raise SkippedError(f"the container has no /proc/{FOLDER}/{FILE}") from None
            raise

    def cover(self, content: bytes) -> None:
        """Mount a read-only file over them; nothing is made in the image, not even for a moment.

        The file lies in a tmpfs, which covers the procfs's own folder until the file is mounted.
        All by mount(2): the newer calls can mount a file out of a detached tmpfs since Linux 6.15.

        Raises:
            OSError: nothing may be mounted here, and nothing is.
            HookError: half of it may be there; the container must not start with that.
        """
        # A shared procfs would hand these mounts on to wherever it is shared with.
        syscalls.mount(None, self._proc, None, syscalls.MS_PRIVATE)
        options = b"size=64k,nr_inodes=4,mode=755"
        syscalls.mount(b"tmpfs", self._folder, b"tmpfs", syscalls.MS_HARMLESS, options)
        try:
            self._cover(content)
        except OSError as error:
            raise HookError(f"/proc/{FOLDER}: {error.strerror}", code="CDG-X003") from None

    def _cover(self, content: bytes) -> None:
        desk = self._open(FOLDER)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            written = os.open(FILE, flags, 0o444, dir_fd=desk)
            os.write(written, content)
            syscalls.mount(written, self._file, None, syscalls.MS_BIND)
        finally:
            syscalls.unmount(desk)
        cover = self._open(f"{FOLDER}/{FILE}")
        try:
            remount = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
            syscalls.mount(None, cover, None, remount | syscalls.MS_HARMLESS)
        except BaseException:
            # One that the container could write to would promise what it does not keep.
            syscalls.unmount(cover)
            raise

    def _open(self, path: str) -> int:
        """What is mounted at a path of the procfs now."""
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._proc)
