# SPDX-License-Identifier: Apache-2.0
"""Step disable-device-node-modification: keeps the driver's libraries from creating device nodes.

The libraries read ModifyDeviceFiles in /proc/driver/nvidia/params. If it is 1, and the container's
root may use mknod, they create a node for every GPU of the host. (The device cgroup decides which
nodes can be opened.) So this step mounts a file with 0 over that file, in the container's procfs.
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
    """Return whether the step is requested."""
    return bool(options["--disable-device-node-modification"])


def run(rootfs: RootFs, _requested: bool, _until: float) -> None:
    """Mount a file over the container's params, if ModifyDeviceFiles is 1.

    Raises:
        SkippedError: the container has no procfs of its own, its params are covered already, or
            this process is not allowed to mount.
    """
    params = disabled(driver_params())
    if params is None:
        return
    params_file = _ParamsFile(rootfs)
    rootfs.report_change(f"mount a file with {_DISABLED.decode()} over /proc/{FOLDER}/{FILE}")
    if rootfs.is_dry_run:
        return
    if _in_first_mount_namespace():
        # Not in a container: the mount would stay on the host.
        raise SkippedError("this process is not in the mount namespace of a container")
    try:
        params_file.cover(params)
    except PermissionError as error:
        raise SkippedError(f"mounting is not allowed here: {error.strerror}") from None


def disabled(params: bytes) -> bytes | None:
    """Return the parameters with ModifyDeviceFiles off; None if it is not on."""
    lines = params.split(b"\n")
    if _ENABLED not in lines:
        return None
    return b"\n".join(_DISABLED if line == _ENABLED else line for line in lines)


def driver_params() -> bytes:
    """Return the parameters of the host's driver; empty without a driver."""
    try:
        return read_beginning("/proc/driver/nvidia/params", MAX_PARAMS)
    except (FileNotFoundError, NotADirectoryError):
        return b""


def _in_first_mount_namespace() -> bool:
    own = os.stat("/proc/self/ns/mnt")
    try:
        return same_file(own, os.stat("/proc/1/ns/mnt"))
    except (PermissionError, FileNotFoundError):
        # Only root may read the namespace of process 1; the kernel decides what others may mount.
        return False


class _ParamsFile:
    """The params file in the container's own procfs, in one mount and without links on its path."""

    def __init__(self, rootfs: RootFs) -> None:
        """Open the file and its directory with `O_PATH`.

        Raises:
            SkippedError: the container has no params file, or another mount covers it.
        """
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._proc = os.open("proc", flags, dir_fd=rootfs.descriptor)
            if syscalls.file_system(self._proc) != syscalls.PROC_SUPER_MAGIC:
                raise SkippedError("the container's /proc is not a procfs")
            self._folder = rootfs.find_within(self._proc, FOLDER)
            self._file = rootfs.find_within(self._proc, f"{FOLDER}/{FILE}")
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise SkippedError(f"the container's /proc/{FOLDER} is covered already") from None
            if error.errno in NOWHERE:
                raise SkippedError(f"the container has no /proc/{FOLDER}/{FILE}") from None
            raise

    def cover(self, content: bytes) -> None:
        """Mount a read-only file over the params; no file is created in the image.

        The file is in a tmpfs, which covers the directory of the procfs until the file is mounted.
        This uses mount(2), because only Linux 6.15 and later can mount a file of a detached tmpfs.

        Raises:
            OSError: mounting is not allowed; nothing was mounted.
            HookError: a mount may be left behind, so the container must not start.
        """
        # A shared procfs would propagate these mounts to other namespaces.
        syscalls.mount(None, self._proc, None, syscalls.MS_PRIVATE)
        options = b"size=64k,nr_inodes=4,mode=755"
        syscalls.mount(b"tmpfs", self._folder, b"tmpfs", syscalls.MS_HARMLESS, options)
        try:
            self._cover(content)
        except OSError as error:
            raise HookError(f"/proc/{FOLDER}: {error.strerror}", code="CDG-X003") from None

    def _cover(self, content: bytes) -> None:
        tmpfs = self._open(FOLDER)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(FILE, flags, 0o444, dir_fd=tmpfs)
            os.write(descriptor, content)
            syscalls.mount(descriptor, self._file, None, syscalls.MS_BIND)
        finally:
            syscalls.unmount(tmpfs)
        cover = self._open(f"{FOLDER}/{FILE}")
        try:
            remount = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
            syscalls.mount(None, cover, None, remount | syscalls.MS_HARMLESS)
        except BaseException:
            # The container could change a writable file, so it must not be left.
            syscalls.unmount(cover)
            raise

    def _open(self, path: str) -> int:
        """Open what is now mounted at a path of the procfs."""
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._proc)
