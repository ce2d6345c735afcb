# SPDX-License-Identifier: Apache-2.0
"""Reads what engines and OCI runtimes wrote about containers: state, config.json, names.

No engine is asked and nothing is executed. Files belong to root, or to the user of a rootless
engine; a container's image has a part in them. They are read up to a limit, as regular files only,
and never from a file system of the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from cdi_base import files, oci_config, strict_json
from cdi_base.errors import HookError
from cdi_base.rootfs import resolve
from cdi_base.rootfs.opening import open_directory, open_file
from cdi_gen.errors import CdiGenError

MAX_STATE = 4 << 20
MAX_STORAGE = 16 << 20
"""Bytes of the list of containers of a storage: 5,000 containers have 3 MiB."""
MAX_NAMES = 65_536

USERS = "/run/user"
"""What is in its directories, users have written."""

Document = dict[str, Any]


class RecordError(CdiGenError):
    """A file of an engine cannot be read, or is not what the engine writes."""

    code = "CDG-Y201"


def user_of(directory: str) -> str:
    """Return the number of the user who has written a state; empty if it is root's."""
    above, separator, below = directory.partition(f"{USERS}/")
    return below.partition("/")[0] if separator and not above else ""


class State(NamedTuple):
    """The state of a container, as its OCI runtime wrote it."""

    directory: str
    runtime: str
    """``runc``, ``crun``, …"""
    pid: int
    start_time: int
    """In clock ticks since the boot; 0 if the runtime does not write it."""
    bundle: str


class Tree:
    """The files of a host, or of a container in which an engine runs.

    Links resolve within the tree, as its own processes see them.
    """

    def __init__(self, root: int, mounts: Collection[int] | None = None) -> None:
        """Take the root.

        Args:
            root: an ``O_PATH`` descriptor, which stays the caller's.
            mounts: the ids of the mounts that may be touched; None: all.
        """
        self._root = root
        self._resolve = (
            resolve.choose(root) if mounts is None else partial(resolve.by_walking, mounts=mounts)
        )
        self.bytes_read = 0
        """Of all files."""

    def read(self, path: str, limit: int) -> bytes | None:
        """Return the content of a regular file; None if the path leads to nothing.

        Raises:
            RecordError: the file cannot be read, is another kind of file, or is too large.
        """
        try:
            descriptor = self._resolve(self._root, path, False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            file = open_file(descriptor)
            try:
                content = files.content(file, limit)
            finally:
                os.close(file)
        except OSError as error:
            raise _unreadable(path, error) from error
        finally:
            os.close(descriptor)
        self.bytes_read += len(content)
        return content

    def exists(self, path: str) -> bool:
        """Whether a path leads to anything; nothing is opened."""
        try:
            os.close(self._resolve(self._root, path, False))
        except (OSError, ValueError):
            return False
        return True

    def document(self, path: str, limit: int) -> Document | None:
        """Return a JSON object; None if the path leads to nothing.

        Raises:
            RecordError: as `read`; or the content is not a JSON object.
        """
        value = self.value(path, limit)
        if value is not None and not isinstance(value, dict):
            raise RecordError(f"{path} is not a JSON object", subject=path)
        return value

    def value(self, path: str, limit: int) -> Any:
        """Return a JSON value; None if the path leads to nothing.

        Raises:
            RecordError: as `read`; or the content is not JSON.
        """
        content = self.read(path, limit)
        if content is None:
            return None
        try:
            return strict_json.parse(content)
        except strict_json.JSONError as error:
            raise RecordError(f"{path} is not JSON: {error}", subject=path) from error

    def names(self, path: str) -> list[str]:
        """Return the names in a directory; empty if it cannot be listed."""
        try:
            descriptor = self._resolve(self._root, path, False)
        except OSError:
            return []
        try:
            directory = open_directory(descriptor)
        except OSError:
            return []
        finally:
            os.close(descriptor)
        try:
            with os.scandir(directory) as entries:
                return sorted(entry.name for entry in islice(entries, MAX_NAMES))
        except OSError:
            return []
        finally:
            os.close(directory)

    def configuration(self, bundle: str) -> Document | None:
        """Return the config.json of a bundle; None if there is none.

        Raises:
            RecordError: as `document`; or it is larger than that of any container.
        """
        path = f"{bundle}/{oci_config.NAME}"
        content = self.read(path, oci_config.MAX_BYTES)
        if content is None:
            return None
        try:
            return oci_config.parse(content, path)
        except HookError as error:
            raise RecordError(str(error), subject=path) from error


def state_in(tree: Tree, directory: str) -> State | None:
    """Return the state in a directory of runc, of crun or of a compatible runtime.

    Raises:
        RecordError: as `Tree.document`; or a value has another type.
    """
    document = tree.document(f"{directory}/state.json", MAX_STATE)
    if document is not None:
        configuration = document.get("config")
        labels = configuration.get("labels") if isinstance(configuration, dict) else None
        texts = [str(label) for label in labels] if isinstance(labels, list) else []
        bundles = [text[7:] for text in texts if text.startswith("bundle=")]
        bundle = bundles[0] if bundles else str(document.get("bundle") or "")
        pid, start = document.get("init_process_pid"), document.get("init_process_start")
        runtime = "runc"
        if pid is None and "pid" in document:
            pid, runtime = document["pid"], "youki"
    else:
        document = tree.document(f"{directory}/status", MAX_STATE)
        if document is None:
            return None
        bundle = str(document.get("bundle") or "")
        pid, start = document.get("pid"), document.get("process-start-time")
        runtime = "crun"
    return State(directory, runtime, _number(pid), _number(start), bundle)


def state_directories(tree: Tree) -> list[str]:
    """Return the directories whose subdirectories are states of containers, that exist."""
    fixed = ("/run/runc", "/run/crun", "/run/youki", "/run/docker/runtime-runc/moby")
    found = [path for path in fixed if tree.names(path)]
    for base in ("/run/containerd/runc", "/run/containerd/crun"):
        found += [f"{base}/{namespace}" for namespace in tree.names(base)]
    for user in tree.names(USERS):
        of_user = f"{USERS}/{user}"
        below = {
            name: f"{of_user}/{name}" for name in tree.names(of_user) if name in _USER_DIRECTORIES
        }
        found += [path for name, path in below.items() if name != "docker"]
        if "docker" in below:
            found.append(f"{of_user}/docker/runtime-runc/moby")
    return found


_USER_DIRECTORIES = frozenset({"runc", "crun", "youki", "docker"})


def task_directories(tree: Tree) -> list[str]:
    """Return the directories whose subdirectories are bundles of containerd's tasks."""
    bases = (
        *("/run/containerd", "/run/docker/containerd/daemon", "/run/k3s/containerd"),
        *("/run/k0s/containerd", "/var/snap/microk8s/common/run/containerd"),
    )
    found = []
    for base in bases:
        tasks = f"{base}/io.containerd.runtime.v2.task"
        found += [f"{tasks}/{namespace}" for namespace in tree.names(tasks)]
    return found


def storages(tree: Tree) -> Iterator[str]:
    """Yield the directories of containers of containers/storage (Podman, CRI-O) that exist."""
    bases = ["/var/lib/containers/storage", "/run/containers/storage"]
    homes = [f"/home/{name}" for name in tree.names("/home")]
    bases += [f"{home}/.local/share/containers/storage" for home in homes]
    for base in bases:
        for name in tree.names(base):
            if name.endswith("-containers"):
                yield f"{base}/{name}"


def stored_containers(tree: Tree, directory: str) -> list[Document]:
    """Return the containers of a storage, given by a directory of `storages`.

    Raises:
        RecordError: as `Tree.value`.
    """
    containers: list[Document] = []
    for name in ("containers.json", "volatile-containers.json"):
        value = tree.value(f"{directory}/{name}", MAX_STORAGE)
        if isinstance(value, list):
            containers += [item for item in value if isinstance(item, dict)]
    return containers


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _unreadable(path: str, error: OSError) -> RecordError:
    return RecordError(f"{path}: {error.strerror or error}", subject=path)
