# SPDX-License-Identifier: Apache-2.0
"""The directories of this host in which engines store images."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeGuard

from cdi_base import files, toml
from cdi_base.errors import HookError
from cdi_base.strict_json import JSONError, parse
from cdi_gen.images import containerd_store, containers_storage, docker_store

MAX_CONFIGURATION = 1 << 20

DOCKER = ("/var/lib/docker", "/var/snap/docker/common/var-lib-docker")
CONTAINERD = (
    "/var/lib/containerd",
    "/var/lib/docker/containerd/daemon",
    "/var/lib/rancher/k3s/agent/containerd",
    "/var/lib/rancher/rke2/agent/containerd",
    "/var/lib/k0s/containerd",
    "/var/snap/microk8s/common/var/lib/containerd",
)
CONTAINERS_STORAGE = ("/var/lib/containers/storage", "/usr/lib/containers/storage")
STORAGE_FILES = ("/usr/share/containers/storage.conf", "/etc/containers/storage.conf")


class Place(NamedTuple):
    """A directory that may be a store."""

    kind: str
    """The `NAME` of the store's module."""
    path: str


class Host:
    """The user and the file system that places are looked up for; tests replace them."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, uid: int | None = None, root: str = ""
    ) -> None:
        """Look at this process, unless told otherwise.

        Args:
            environment: of the user.
            uid: of the user.
            root: the directory that is the host's root; empty for this host.
        """
        self.environment = os.environ if environment is None else environment
        self.uid = os.geteuid() if uid is None else uid
        self.root = root.rstrip("/")

    def homes(self) -> Iterator[tuple[str, str]]:
        """Yield the home directory and the directory of data of the user.

        For root also those of the user who called sudo.
        """
        home = self.environment.get("HOME") or ""
        if self.uid:
            if home.startswith("/"):
                data = self.environment.get("XDG_DATA_HOME") or f"{home}/.local/share"
                yield home, data
            return
        caller = self.environment.get("SUDO_UID", "")
        if caller.isascii() and caller.isdecimal() and caller != "0":
            try:
                home = pwd.getpwuid(int(caller)).pw_dir
            except (KeyError, OverflowError):
                return
            yield home, f"{home}/.local/share"


def places(host: Host) -> list[Place]:
    """Return the directories that may be stores, each once, in the order in which to search."""
    return list(dict.fromkeys(_places(host)))


def _places(host: Host) -> Iterator[Place]:
    yield from (Place(docker_store.NAME, path) for path in _docker_roots(host))
    graph_roots, user_roots = _graph_roots(host)
    for _, data in host.homes():
        yield Place(docker_store.NAME, f"{data}/docker")
        yield Place(containers_storage.NAME, f"{data}/containers/storage")
        yield Place(containerd_store.NAME, f"{data}/containerd")
        yield Place(containerd_store.NAME, f"{data}/docker/containerd/daemon")
    yield from (Place(containers_storage.NAME, path) for path in (*user_roots, *graph_roots))
    yield from (Place(containers_storage.NAME, path) for path in CONTAINERS_STORAGE)
    yield from (Place(containerd_store.NAME, path) for path in _containerd_roots(host))


def _docker_roots(host: Host) -> Iterator[str]:
    content = _read(host, "/etc/docker/daemon.json")
    try:
        settings = parse(content) if content else {}
    except (JSONError, HookError, RecursionError):
        settings = {}
    path = settings.get("data-root") if isinstance(settings, dict) else None
    if isinstance(path, str) and path.startswith("/"):
        yield path
    yield from DOCKER


def _containerd_roots(host: Host) -> Iterator[str]:
    # The key is before the first table; a table may have floats, which the reader rejects.
    content, _, _ = (_read(host, "/etc/containerd/config.toml") or b"").partition(b"\n[")
    path = _parsed(content).get("root")
    if isinstance(path, str) and path.startswith("/"):
        yield path
    yield from CONTAINERD


def _graph_roots(host: Host) -> tuple[list[str], list[str]]:
    """Return the stores that the files storage.conf name: the system's, and the user's own."""
    system: list[str] = []
    user: list[str] = []
    names = list(STORAGE_FILES)
    for home, _ in host.homes():
        names.append(f"{home}/.config/containers/storage.conf")
    if chosen := host.environment.get("CONTAINERS_STORAGE_CONF"):
        names.append(chosen)
    for name in names:
        storage = _table(host, name).get("storage")
        storage = storage if isinstance(storage, dict) else {}
        options = storage.get("options")
        options = options if isinstance(options, dict) else {}
        is_of_user = name not in STORAGE_FILES
        stores = [storage.get("graphroot")]
        more = options.get("additionalimagestores")
        stores += more if isinstance(more, list) else []
        (user if is_of_user else system).extend(path for path in stores if _is_path(path))
        rootless = storage.get("rootless_storage_path")
        if host.uid and isinstance(rootless, str):
            for word, value in (
                ("$HOME", host.environment.get("HOME", "")),
                ("$UID", str(host.uid)),
            ):
                rootless = rootless.replace(word, value)
            user += filter(_is_path, [rootless])
    return system, user


def _is_path(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.startswith("/")


def _table(host: Host, path: str) -> dict[str, object]:
    return _parsed(_read(host, path) or b"")


def _parsed(content: bytes) -> dict[str, object]:
    try:
        return toml.parse(content.decode("utf-8", "replace"))[0]
    except (HookError, ValueError, RecursionError):
        return {}


def _read(host: Host, path: str) -> bytes | None:
    try:
        return files.read(f"{host.root}{path}", MAX_CONFIGURATION, follow=True)
    except OSError:
        return None
