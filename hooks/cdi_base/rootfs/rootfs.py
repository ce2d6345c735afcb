# SPDX-License-Identifier: Apache-2.0
"""Accesses all files of the container through one descriptor of its root, never by a joined path.

The image is hostile: a name may be a link, a pipe or a device, and may change at any time. So each
file is first opened with `O_PATH`, which has no effect on it, then checked, and then used through
that descriptor. Changes are made in the root's own mount only, never in a volume.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import files, trust
from cdi_base.errors import HookError, SkippedError, shown
from cdi_base.rootfs import links, mounts, resolve
from cdi_base.rootfs.folders import Changes, Folders
from cdi_base.rootfs.opening import holds, link_text, open_directory, open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cdi_base.rootfs.resolve import Resolver

    Tell = Callable[[str], None]

MAX_NAMES = 65_536
MAX_DEPTH = 16

NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""Error numbers of a path that leads nowhere in the container."""


class RootFs:
    """The root file system of a container that is being created.

    Paths are those that the container will see; a leading slash is optional. Every method raises
    `OSError` with the container's path as its file name.

    `is_dry_run` is whether changes are reported and not made.
    """

    is_dry_run = False

    def __init__(
        self, descriptor: int, resolver: Resolver | None = None, *, tell: Tell | None = None
    ) -> None:
        status = os.fstat(descriptor)
        # By identity: `//`, `/..`, a link to `/` and a bind mount of `/` are all the host's root.
        if files.same_file(status, os.stat("/")):
            raise HookError("the container's root is the host's root: refused", code="CDG-K005")
        if not stat.S_ISDIR(status.st_mode):
            raise HookError("the container's root is not a directory", code="CDG-K005")
        self.descriptor = descriptor
        self.bundle: int | None = None
        """The directory of the container's config.json; None if it is not known."""
        self.is_kept_read_only = False
        """Whether changes are refused, because of `--leave-read-only-root`."""
        self.changes: dict[tuple[int, int], Changes] = {}
        """The hook's own changes, by device and inode of the directory."""
        self._tell = tell
        self._prefix = ""
        self._resolve = resolver or resolve.choose(descriptor)
        self.folders = Folders(self._resolve)
        """Within `with rootfs.folders:` a directory is resolved once for all names in it."""
        self._writable = mounts.writable(descriptor)
        self._owner: tuple[int, int] | None = None
        # Files that the hook creates belong to the container's root. In a user namespace the hook
        # runs as that user already.
        if status.st_uid != os.geteuid() and trust.in_first_user_namespace():
            self._owner = (status.st_uid, status.st_gid)

    def leave_read_only(self, *, configured: bool) -> None:
        """Refuse changes if the root is read-only, or will be by its configuration.

        Every change then fails with EROFS, except changes in the engine's /dev.
        """
        if configured or os.fstatvfs(self.descriptor).f_flag & os.ST_RDONLY:
            self._writable = mounts.read_only(self.descriptor)
            self.is_kept_read_only = True

    def writable_root(self, path: str) -> tuple[RootFs, str]:
        """Return the root through which `path` may be changed, and its path below that root.

        Below /dev that root is the tmpfs that the engine mounted there, which is not a volume.
        """
        name = path.removeprefix("/dev/")
        if name == path:
            return self, path
        devices = mounts.devices(self.descriptor)
        if devices is None:
            return self, path
        root = type(self)(devices, self._resolve, tell=self._tell)
        root._prefix = "/dev"  # noqa: SLF001  (an instance of this class)
        return root, f"/{name}"

    def report_change(self, change: str) -> None:
        """Report a change, for `--debug` or a dry run."""
        if self._tell:
            self._tell(change)

    def find(self, path: str, *, stay: bool = False) -> int:
        """Return an `O_PATH` descriptor of what `path` leads to; links resolve inside the root.

        With `stay` the whole path, links included, has to stay in the root's own mount (EXDEV).
        """
        try:
            return self._resolve(self.descriptor, path, stay)
        except OSError as error:
            raise _with_path(path, error) from None

    def find_within(self, directory: int, path: str) -> int:
        """Return the same for a path below a directory; the path has to stay in its mount."""
        try:
            return self._resolve(directory, path, True)
        except OSError as error:
            raise _with_path(path, error) from None

    def status(self, path: str) -> os.stat_result | None:
        """Return the attributes of what `path` leads to; None if it leads nowhere."""
        try:
            descriptor = self.find(path)
        except OSError as error:
            if error.errno in NOWHERE:
                return None
            raise
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def status_in_folder(self, path: str) -> os.stat_result | None:
        """Return the same; for a name that is no link, of which many are in one directory."""
        folder, _, name = path.rpartition("/")
        if name in {"", ".", ".."}:
            return self.status(path)
        try:
            parent = self.folders.open(self.descriptor, folder, False)
            try:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            finally:
                self.folders.close(parent)
        except OSError as error:
            if error.errno in NOWHERE:
                return None
            raise _with_path(path, error) from None
        return self.status(path) if stat.S_ISLNK(status.st_mode) else status

    def leads_to(self, path: str, file: os.stat_result | None) -> bool:
        """Whether `path` leads to a file, of which the attributes are given."""
        status = self.status(path) if file else None
        return bool(file and status and files.same_file(status, file))

    def is_directory(self, path: str) -> bool:
        """Whether `path` leads to a directory."""
        status = self.status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def open_file(self, path: str) -> int:
        """Return a descriptor of a regular file, for reading; no other kind of file is opened."""
        descriptor = self.find(path)
        try:
            return open_file(descriptor)
        except OSError as error:
            raise _with_path(path, error) from None
        finally:
            os.close(descriptor)

    def read(self, path: str, limit: int, *, world_readable: bool = False) -> bytes:
        """Return the content of a regular file of at most `limit` bytes, of the root's own mount.

        A step may write the content to a file that the container's user can read. So the path must
        not lead through a volume or another mount (EXDEV), whose files may be meant for the host's
        root only. With `world_readable` all users must be allowed to read the file.

        Raises:
            SkippedError: some users are not allowed to read the file.
        """
        descriptor = self.find(path, stay=True)
        try:
            if world_readable and not os.fstat(descriptor).st_mode & stat.S_IROTH:
                raise SkippedError(f"{shown(path)}: not readable by all users")
            return _content(path, descriptor, limit)
        finally:
            os.close(descriptor)

    def read_in_place(self, path: str, limit: int) -> bytes:
        """Return the same; a file may also be mounted at `path` itself, without links on the way.

        The user who mounted the file wants the container to have its content under this name.
        """
        try:
            return self.read(path, limit)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        folder, _, name = path.rpartition("/")
        parent = self.find(folder, stay=True)
        try:
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except OSError as error:
            raise _with_path(path, error) from None
        finally:
            os.close(parent)
        try:
            if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            return _content(path, descriptor, limit)
        finally:
            os.close(descriptor)

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, in byte order; of more than 65,536, any 65,536."""
        descriptor = self.find(path)
        try:
            directory = open_directory(descriptor)
        except OSError as error:
            raise _with_path(path, error) from None
        finally:
            os.close(descriptor)
        names: list[str] = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if len(names) == MAX_NAMES:
                        break
                    names.append(entry.name)
        finally:
            os.close(directory)
        return sorted(names, key=os.fsencode)

    def own_links(self, directory: int) -> dict[str, str]:
        """Return the links that the hook has created in an open directory, by name; or would have.

        These are not read again.
        """
        status = os.fstat(directory)
        changes = self.changes.get((status.st_dev, status.st_ino))
        names = changes.names if changes else {}
        return {name: text for name, text in names.items() if text is not None}

    def put(self, path: str, new: bytes) -> bool:
        """Replace a file or link by a file (mode 0644) in one step; False if it has the content.

        The container sees the old file or the new one. The file is not synchronized to the disk:
        the container does not survive a crash of the machine.
        """
        parent, name = self._open_parent(path)
        try:
            if holds(parent, name, new):
                return False
            self._note_change(parent, name)
            files.replace(name, new, directory=parent, durable=False, owner=self._owner)
        except OSError as error:
            raise _with_path(path, error) from None
        finally:
            self.folders.close(parent)
        self.report_change(f"write {self._prefix}{path}")
        return True

    def link(self, path: str, text: str, *, kept: os.stat_result | None = None) -> bool:
        """Make `path` a symbolic link with the target `text` in one step; False if it is one.

        An existing file, link or empty directory is replaced, unless it leads to the file `kept`. A
        directory that is not empty is an error.
        """
        is_replaced = False
        parent, name = self._open_parent(path)
        try:
            changes = self._note_change(parent, name)
            if self._owner or not links.make(parent, name, text):
                if link_text(parent, name) == text or self.leads_to(path, kept):
                    return False
                is_replaced = True
                links.replace(parent, name, text, self._owner)
            changes.names[name] = text
        except OSError as error:
            raise _with_path(path, error) from None
        finally:
            self.folders.close(parent)
            if is_replaced:
                # The old link may have been on the path of a directory.
                self.folders.forget()
        self.report_change(f"link {self._prefix}{path} to {text}")
        return True

    def has(self, path: str) -> bool:
        """Whether `path` exists; a link to nowhere does."""
        folder, _, name = path.rpartition("/")
        try:
            parent = self.find(folder)
        except OSError as error:
            if error.errno in NOWHERE:
                return False
            raise
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        finally:
            os.close(parent)
        return True

    def remove(self, path: str) -> bool:
        """Remove a file or a link; False if it does not exist."""
        # A read-only root or a volume is not an error if nothing has to be removed.
        if not self.has(path):
            return False
        parent, name = self._open_parent(path)
        try:
            self._note_change(parent, name)
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _with_path(path, error) from None
        finally:
            self.folders.close(parent)
        self.report_change(f"remove {self._prefix}{path}")
        return True

    def _open_parent(self, path: str) -> tuple[int, str]:
        """Return the directory of `path`, created if it is missing, and the last component."""
        folder, _, name = path.rpartition("/")
        if name in {"", ".", ".."}:
            raise OSError(errno.EINVAL, "not a file name", path)
        try:
            try:
                if self._writable != self.descriptor:
                    # The clone shows no volumes: files below a volume must not be written to.
                    self.folders.close(self.folders.open(self.descriptor, folder, True))
                return self.folders.open(self._writable, folder, True), name
            except FileNotFoundError:
                return self._make_directories(folder), name
        except OSError as error:
            raise _with_path(path, error) from None

    def _make_directories(self, path: str) -> int:
        parts = [part for part in path.split("/") if part]
        if len(parts) > MAX_DEPTH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        directory = self._resolve(self._writable, "/", True)
        for count, part in enumerate(parts, 1):
            parent = directory
            try:
                try:
                    directory = self._resolve(self._writable, "/".join(parts[:count]), True)
                except FileNotFoundError:
                    directory = self._make_directory(parent, part)
            finally:
                os.close(parent)
        return directory

    def _make_directory(self, parent: int, name: str) -> int:
        self._note_change(parent, name)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            # Another hook of the same image created it; or it is a link to nowhere, which the
            # open below rejects.
            is_new = False
        else:
            is_new = True
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=parent)
        if is_new:
            self._set_owner(descriptor)
        return descriptor

    def _note_change(self, parent: int, name: str) -> Changes:
        """Remember the name, and the directory's mtime, before the hook changes it."""
        status = os.fstat(parent)
        identity = (status.st_dev, status.st_ino)
        changes = self.changes.get(identity)
        if changes is None:
            changes = self.changes[identity] = Changes(status.st_mtime_ns)
        changes.names[name] = None
        return changes

    def _set_owner(self, descriptor: int) -> None:
        if self._owner:
            os.fchown(descriptor, *self._owner)


def _with_path(path: str, error: OSError) -> OSError:
    return OSError(error.errno, error.strerror, path)


def _content(path: str, descriptor: int, limit: int) -> bytes:
    try:
        file = open_file(descriptor)
        try:
            return files.content(file, limit)
        finally:
            os.close(file)
    except OSError as error:
        raise _with_path(path, error) from None
