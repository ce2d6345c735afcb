# SPDX-License-Identifier: Apache-2.0
"""All access to files of the container: through one descriptor of its root, never a joined path.

The image is hostile: any name may be a link, a pipe, a device, and may change between two looks.
So everything is first opened in place (`O_PATH` has no effect on anything), then looked at, then
used through that very descriptor. What is written lies in the root's own mount: a volume is not.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import files, trust
from cdi_base.errors import HookError, SkippedError, shown
from cdi_base.rootfs import mounts, resolve
from cdi_base.rootfs.opening import holds, link_text, open_directory, open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cdi_base.rootfs.resolve import Resolver

    Tell = Callable[[str], None]

MAX_NAMES = 65_536
MAX_DEPTH = 16

NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""How a path ends that leads nowhere in the container."""


class RootFs:
    """The root file system of a container that is being made.

    Paths are as the container will see them; a leading slash is optional. Every method raises
    `OSError` with the container's path as its file name.
    """

    def __init__(
        self, descriptor: int, resolver: Resolver | None = None, *, tell: Tell | None = None
    ) -> None:
        here = os.fstat(descriptor)
        # By identity: `//`, `/..`, a link to `/` and a bind mount of `/` are all the host.
        if files.same_file(here, os.stat("/")):
            raise HookError("the container's root is the host's root: refused", code="CDG-K005")
        if not stat.S_ISDIR(here.st_mode):
            raise HookError("the container's root is not a directory", code="CDG-K005")
        self.descriptor = descriptor
        self.bundle: int | None = None
        """The folder of the container's config.json; None where it is not known."""
        self.is_left = False
        """Whether nothing may be changed in it, although it could be."""
        self._tell = tell
        self._at = ""
        self._resolve = resolver or resolve.choose(descriptor)
        self._writable = mounts.writable(descriptor)
        self._owner: tuple[int, int] | None = None
        # In a user namespace we are its root already; else what we make must be its root's.
        if here.st_uid != os.geteuid() and trust.in_first_user_namespace():
            self._owner = (here.st_uid, here.st_gid)

    def leave_read_only(self, *, configured: bool) -> None:
        """Change nothing of a root that is read-only, or that its configuration says will be.

        Every change ends with EROFS, but those of the engine's /dev.
        """
        if configured or os.fstatvfs(self.descriptor).f_flag & os.ST_RDONLY:
            self._writable = mounts.read_only(self.descriptor)
            self.is_left = True

    def home(self, path: str) -> tuple[RootFs, str]:
        """What `path` may be changed through, and its name there: the root, or the engine's /dev.

        /dev is a mount of its own, but no operator's.
        """
        below = path.removeprefix("/dev/")
        if below == path:
            return self, path
        devices = mounts.devices(self.descriptor)
        if devices is None:
            return self, path
        found = type(self)(devices, self._resolve, tell=self._tell)
        found._at = "/dev"  # noqa: SLF001  (one of our own kind)
        return found, f"/{below}"

    def rehearses(self, change: str) -> bool:
        """Tell of a change to whoever listens; True if it is to be told only and not made."""
        if self._tell:
            self._tell(change)
        return False

    def find(self, path: str, *, stay: bool = False) -> int:
        """An `O_PATH` descriptor of what `path` leads to, links followed inside the root.

        With `stay` it lies in the root's own mount, and so does all that is passed on the way.
        """
        try:
            return self._resolve(self.descriptor, path, stay)
        except OSError as error:
            raise _about(path, error) from None

    def find_within(self, directory: int, path: str) -> int:
        """The same below a directory of the container, and in that directory's mount."""
        try:
            return self._resolve(directory, path, True)
        except OSError as error:
            raise _about(path, error) from None

    def status(self, path: str) -> os.stat_result | None:
        """What `path` leads to; None if it leads nowhere in the container."""
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

    def is_directory(self, path: str) -> bool:
        """Whether `path` leads to a directory."""
        status = self.status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def open_file(self, path: str) -> int:
        """A descriptor of a regular file, to read it; nothing else is ever opened."""
        descriptor = self.find(path)
        try:
            return open_file(descriptor)
        except OSError as error:
            raise _about(path, error) from None
        finally:
            os.close(descriptor)

    def read(self, path: str, limit: int, *, everybodys: bool = False) -> bytes:
        """The content of a regular file of at most `limit` bytes, of the root's own mount.

        What a step reads it may write elsewhere, where the container's user can read it. So no
        link leads to it through a volume or another mount (EXDEV), whose files only the host's
        root may be meant to read; with `everybodys` it is a file that all users may read.

        Raises:
            SkippedError: it is not.
        """
        place = self.find(path, stay=True)
        try:
            if everybodys and not os.fstat(place).st_mode & stat.S_IROTH:
                raise SkippedError(f"{shown(path)}: not everybody may read it")
            return _content(path, place, limit)
        finally:
            os.close(place)

    def read_in_place(self, path: str, limit: int) -> bytes:
        """The same, but a file may also be mounted at `path` itself, with no link on the way.

        Its operator wants the container to have this content under this name.
        """
        try:
            return self.read(path, limit)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        folder, _, name = path.rpartition("/")
        parent = self.find(folder, stay=True)
        try:
            place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except OSError as error:
            raise _about(path, error) from None
        finally:
            os.close(parent)
        try:
            if stat.S_ISLNK(os.fstat(place).st_mode):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            return _content(path, place, limit)
        finally:
            os.close(place)

    def names(self, path: str) -> list[str]:
        """The names in a directory, in byte order; of more than 65,536, any 65,536."""
        place = self.find(path)
        try:
            directory = open_directory(place)
        except OSError as error:
            raise _about(path, error) from None
        finally:
            os.close(place)
        found: list[str] = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if len(found) == MAX_NAMES:
                        break
                    found.append(entry.name)
        finally:
            os.close(directory)
        return sorted(found, key=os.fsencode)

    def links_to_be(self, _directory: int) -> dict[str, str]:
        """Links that a directory, which is open, does not have yet: a rehearsal's."""
        return {}

    def put(self, path: str, new: bytes) -> bool:
        """Replace a file (mode 0644) in one step, links at its place included; False if it is so.

        The container sees the old file or the new one. It is not synced: an image that a crash of
        the machine cuts off is not started again.
        """
        parent, name = self._place(path)
        try:
            if holds(parent, name, new):
                return False
            files.replace(name, new, directory=parent, durable=False, owner=self._owner)
        except OSError as error:
            raise _about(path, error) from None
        finally:
            os.close(parent)
        self.rehearses(f"write {self._at}{path}")
        return True

    def link(self, path: str, text: str) -> bool:
        """Make `path` a symbolic link that says `text`, in one step; False if it is so already.

        A file or a link at its place is replaced, and so is an empty directory: Docker makes one
        where a volume's source was missing, and `docker commit` keeps it. Any other is not.
        """
        parent, name = self._place(path)
        try:
            if link_text(parent, name) == text:
                return False
            temporary = files.temporary_name()
            try:
                os.symlink(text, temporary, dir_fd=parent)
                if self._owner:
                    os.chown(temporary, *self._owner, dir_fd=parent, follow_symlinks=False)
                try:
                    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
                except IsADirectoryError as error:
                    _take_empty(parent, name, error)
                    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                files.discard(temporary, parent)
                raise
        except OSError as error:
            raise _about(path, error) from None
        finally:
            os.close(parent)
        self.rehearses(f"link {self._at}{path} to {text}")
        return True

    def has(self, path: str) -> bool:
        """Whether there is anything at `path`, a link to nowhere included."""
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
        """Take a file or a link away; False if there is none."""
        # A read-only root and a volume are no fault where nothing is to be done.
        if not self.has(path):
            return False
        parent, name = self._place(path)
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _about(path, error) from None
        finally:
            os.close(parent)
        self.rehearses(f"remove {self._at}{path}")
        return True

    def _place(self, path: str) -> tuple[int, str]:
        """The directory that holds `path`, made where it is missing, and the last name."""
        folder, _, name = path.rpartition("/")
        if name in {"", ".", ".."}:
            raise OSError(errno.EINVAL, "not the name of a file", path)
        try:
            try:
                if self._writable != self.descriptor:
                    # The clone knows no volumes: what lies below one must not be written to.
                    os.close(self._resolve(self.descriptor, folder, True))
                return self._resolve(self._writable, folder, True), name
            except FileNotFoundError:
                return self._make_directories(folder), name
        except OSError as error:
            raise _about(path, error) from None

    def _make_directories(self, path: str) -> int:
        parts = [part for part in path.split("/") if part]
        if len(parts) > MAX_DEPTH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        here = self._resolve(self._writable, "/", True)
        for count, part in enumerate(parts, 1):
            above = here
            try:
                try:
                    here = self._resolve(self._writable, "/".join(parts[:count]), True)
                except FileNotFoundError:
                    here = self._make_directory(above, part)
            finally:
                os.close(above)
        return here

    def _make_directory(self, parent: int, name: str) -> int:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            # Another start of the same image made it, or it is a link to nowhere: then the open
            # below refuses.
            made = False
        else:
            made = True
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=parent)
        if made:
            self._give(descriptor)
        return descriptor

    def _give(self, descriptor: int) -> None:
        if self._owner:
            os.fchown(descriptor, *self._owner)


def _about(path: str, error: OSError) -> OSError:
    return OSError(error.errno, error.strerror, path)


def _content(path: str, place: int, limit: int) -> bytes:
    try:
        file = open_file(place)
        try:
            return files.content(file, limit)
        finally:
            os.close(file)
    except OSError as error:
        raise _about(path, error) from None


def _take_empty(parent: int, name: str, error: OSError) -> None:
    """Take an empty directory away; raises the given error where it has anything in it."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as failed:
        raise (error if failed.errno in {errno.ENOTEMPTY, errno.EEXIST} else failed) from None
