# SPDX-License-Identifier: Apache-2.0
"""Opens an image by what a user types: a name, an id, a path, or a name with a transport.

| typed | opened |
|---|---|
| ``nvidia/cuda:12.8.1-base``, an id | the first store of this host that has it |
| ``docker-daemon:NAME``, ``containers-storage:NAME``, ``containerd:NAME`` | a store of this kind |
| ``docker://NAME`` | the configuration, from a registry, with skopeo |
| ``docker-archive:FILE[:NAME]``, ``oci-archive:FILE[:NAME]`` | an archive |
| ``oci:DIR[:TAG]``, ``dir:DIR`` | an OCI layout; a directory that skopeo wrote |
| a path that begins with ``/``, ``./``, ``../`` | one of these, or a root file system |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from cdi_gen.errors import CdiGenError
from cdi_gen.images import (
    containerd_store,
    containers_storage,
    docker_store,
    layout,
    reference,
    registry,
)
from cdi_gen.images.archive import open_archive
from cdi_gen.images.errors import ImageError, ImageNotFoundError
from cdi_gen.images.model import Image, Record, Store
from cdi_gen.images.places import Host, places

STORES: dict[str, Callable[[str], Store]] = {
    docker_store.NAME: docker_store.Store,
    containers_storage.NAME: containers_storage.Store,
    containerd_store.NAME: containerd_store.Store,
}

TRANSPORTS = {
    "docker": docker_store.NAME,
    "docker-daemon": docker_store.NAME,
    "containers-storage": containers_storage.NAME,
    "containerd": containerd_store.NAME,
}

MAX_SHOWN = 10
"""The largest number of names in a message."""


def open_image(text: str, *, host: Host | None = None, architecture: str | None = None) -> Image:
    """Open an image by what a user types.

    Args:
        text: see the table of this module.
        host: whose stores are searched; None: this host and user.
        architecture: for an image of several platforms, in OCI's words; None: the machine's.

    Raises:
        ImageNotFoundError: no store has the image.
        ImageError: the image, or all stores, cannot be read.
    """
    transport, colon, rest = text.partition(":")
    if text.startswith("docker://"):
        options = (f"--override-arch={architecture}",) if architecture else ()
        return registry.open_reference(text, *options)
    if colon and transport in {"docker-archive", "oci-archive"}:
        return open_archive(*_path_and_tag(rest), architecture)
    if colon and transport == "oci":
        return layout.open_layout(*_path_and_tag(rest), architecture)
    if colon and transport == "dir":
        return layout.open_transport_directory(rest, architecture)
    if text.startswith(("/", "./", "../")):
        return open_path(text, architecture)
    kind = TRANSPORTS.get(transport) if colon and rest else None
    return _of_stores(rest if kind else text, kind, host or Host(), architecture)


def open_path(path: str, architecture: str | None = None) -> Image:
    """Open what is at a path: an archive, an OCI layout, a root file system."""
    if os.path.isdir(path):
        return layout.open_directory(path, architecture)
    return open_archive(path, None, architecture)


def _path_and_tag(text: str) -> tuple[str, str | None]:
    """Split `PATH[:TAG]`; a path may contain a colon if it exists with it."""
    if os.path.lexists(text):
        return text, None
    path, colon, tag = text.partition(":")
    while colon and not os.path.lexists(path) and ":" in tag:
        more, colon, tag = tag.partition(":")
        path = f"{path}:{more}"
    return path, tag or None


def _of_stores(wanted: str, kind: str | None, host: Host, architecture: str | None) -> Image:
    unreadable: list[CdiGenError] = []
    searched: list[str] = []
    for store in stores(host, kind, unreadable):
        records: list[Record] = []
        try:
            records = reference.find(wanted, store.records())
            if records:
                return _only(wanted, store, records, architecture)
            searched.append(store.path)
        except ImageError as error:
            if records:
                raise
            unreadable.append(error)
        finally:
            store.close()
    if unreadable:
        first = unreadable[0]
        raise ImageError(
            f"{wanted} is in no store that can be read; {len(unreadable)} cannot be read: "
            f"{first.message}",
            hint=first.hint,
            code=first.code,
            subject=wanted,
        )
    where = ", ".join(searched) or "this host has no store of Docker, Podman or containerd"
    raise ImageNotFoundError(
        f"no store has the image {wanted}: {where}",
        hint=f"pull it, or ask its registry: cdi-gen compat docker://{wanted}; "
        "an archive: --archive FILE",
        subject=wanted,
    )


def _only(wanted: str, store: Store, records: list[Record], architecture: str | None) -> Image:
    """Open the image of the records, which may be several of one image."""
    if len({record.image_id for record in records}) > 1:
        names = sorted({record.name for record in records})
        raise ImageError(
            f"{wanted} is not one image: {store.title} has {len(records)}",
            hint=f"name one of them: {', '.join(names[:MAX_SHOWN])}",
            code="CDG-M028",
        )
    return store.open(records[0], architecture)


def stores(host: Host, kind: str | None, unreadable: list[CdiGenError]) -> Iterator[Store]:
    """Yield the stores of a host, opened; the caller closes them.

    Args:
        host: the user and the file system.
        kind: the `NAME` of one kind; None: all.
        unreadable: gets an error for each store that exists and cannot be read.
    """
    for place in places(host):
        if kind is not None and place.kind != kind:
            continue
        path = f"{host.root}{place.path}"
        try:
            yield STORES[place.kind](path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            unreadable.append(
                ImageError(
                    f"{path}: {error.strerror}",
                    hint="run the command with sudo",
                    subject=path,
                )
            )
        except ImageError as error:
            unreadable.append(error)
