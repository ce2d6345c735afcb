# SPDX-License-Identifier: Apache-2.0
"""Finds containers that ended and were not removed, by what engines and runtimes keep of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cdi_gen.containers import records
from cdi_gen.containers.model import Origin
from cdi_gen.containers.records import Document, RecordError, Tree

DOCKER = "/var/lib/docker/containers"
_LONGEST_NAME = 255
_SHORTEST_ID = 3


class Ended(NamedTuple):
    """A container that ended."""

    origin: Origin
    error: str = ""
    """Why, as its engine wrote it."""


def by_name(tree: Tree, name: str) -> Ended | None:
    """Return a container by its id, the beginning of it, or its name; None if there is none."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name or len(name) > _LONGEST_NAME:
        return None
    for search in (_runtimes, _tasks, _docker, _storages):
        for container in search(tree, name):
            return container
    return None


def _is_called(name: str, container_id: str) -> bool:
    return container_id == name or (len(name) >= _SHORTEST_ID and container_id.startswith(name))


def _runtimes(tree: Tree, name: str) -> Iterator[Ended]:
    for directory in records.state_directories(tree):
        for container_id in tree.names(directory):
            if not _is_called(name, container_id):
                continue
            path = f"{directory}/{container_id}"
            try:
                state = records.state_in(tree, path)
            except RecordError:
                continue
            if state is not None:
                engine = "docker" if directory.endswith("/moby") else state.runtime
                yield Ended(Origin(engine=engine, id=container_id, bundle=state.bundle, state=path))


def _tasks(tree: Tree, name: str) -> Iterator[Ended]:
    for directory in records.task_directories(tree):
        for container_id in tree.names(directory):
            if _is_called(name, container_id):
                engine = "docker" if directory.endswith("/moby") else "containerd"
                bundle = f"{directory}/{container_id}"
                yield Ended(Origin(engine=engine, id=container_id, bundle=bundle))


def _docker(tree: Tree, name: str) -> Iterator[Ended]:
    """Yield what dockerd keeps of an ended container: not the bundle, but why it ended."""
    for container_id in tree.names(DOCKER):
        try:
            path = f"{DOCKER}/{container_id}/config.v2.json"
            document = tree.document(path, records.MAX_STATE) or {}
        except RecordError:
            continue
        own_name = _text(document, "Name").removeprefix("/")
        if own_name == name or _is_called(name, container_id):
            settings, state = (_object(document, key) for key in ("Config", "State"))
            origin = Origin(
                engine="docker", id=container_id, name=own_name, image=_text(settings, "Image")
            )
            yield Ended(origin, _text(state, "Error"))


def _storages(tree: Tree, name: str) -> Iterator[Ended]:
    """Podman and CRI-O keep the bundle until the container is removed."""
    for directory in records.storages(tree):
        try:
            stored = records.stored_containers(tree, directory)
        except RecordError:
            continue
        for item in stored:
            container_id = _text(item, "id")
            names = item.get("names")
            is_named = isinstance(names, list) and name in names
            if is_named or (container_id and _is_called(name, container_id)):
                bundle = f"{directory}/{container_id}/userdata"
                title = str(names[0]) if isinstance(names, list) and names else ""
                engine = "cri-o" if title.startswith("k8s_") else "podman"
                yield Ended(Origin(engine=engine, id=container_id, name=title, bundle=bundle))


def _object(document: Document, key: str) -> Document:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(document: Document, key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
