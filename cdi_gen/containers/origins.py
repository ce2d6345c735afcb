# SPDX-License-Identifier: Apache-2.0
"""Finds out which engine a container is of, and its name, image and pod.

The evidence, in falling order of trust: the OCI runtime's state that names the container's first
process, the command line of its monitor (conmon, containerd's shim), the bundle's config.json, and
the names of control groups.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from cdi_gen.containers import group_names, owners, records
from cdi_gen.containers.group_names import HEX_ID
from cdi_gen.containers.model import Origin, Pod, Process
from cdi_gen.containers.procfs import ProcessDirectory
from cdi_gen.containers.records import Document, RecordError, State, Tree

SHIM = "containerd-shim"
CONMON = "conmon"

_LONGEST_NAME = 255
MAX_USER_BYTES = 16 << 20
"""Bytes of all states that one user has written. A container has 100 KiB."""
_CRI = "io.kubernetes.cri."
_CRIO = "io.kubernetes.cri-o."
_KUBELET = "io.kubernetes."


class Finder:
    """Finds the origins of the containers of one host, or of one container with an engine in it."""

    def __init__(
        self, tree: Tree, processes: Mapping[int, Process], proc: str, *, inner: bool = False
    ) -> None:
        """Take the files of the engines.

        Args:
            tree: the files.
            processes: by number.
            proc: the directory of processes.
            inner: whether numbers of processes in the files are those of another PID namespace.
        """
        self._tree = tree
        self._processes = processes
        self._proc = proc
        self._is_inner = inner
        self._directories = records.state_directories(tree)
        self._tasks = records.task_directories(tree)
        self._states: dict[str, dict[int, State]] = {}
        """By directory and number of the first process; in another PID namespace its start time."""
        self._stored: dict[str, dict[str, Document]] = {}
        self._users: dict[int, str] = {}
        self._bytes_of_user: dict[str, int] = {}

    def origin(self, first: Process, owner: int | None = None) -> tuple[Origin, tuple[str, ...]]:
        """Return the origin of a container, and what could not be read.

        Args:
            first: its first process.
            owner: of its user namespace; None if it is in the host's.
        """
        unseen: list[str] = []
        hints = group_names.hints(dict(first.groups))
        user = owner or owners.user_of_groups(dict(first.groups)) or 0
        state = self._state(first, user, [hint.id for hint in hints], unseen)
        monitor = {} if self._is_inner else self._monitor(first)
        origin_id = monitor.get("id") or (os.path.basename(state.directory) if state else "")
        named = [hint for hint in hints if hint.engine or HEX_ID.fullmatch(hint.id)]
        if not origin_id and named:
            origin_id = named[0].id
        hint = next((hint.engine for hint in hints if hint.id == origin_id and hint.engine), "")
        bundle = (state.bundle if state else "") or monitor.get("bundle", "")
        bundle = bundle or self._bundle(origin_id)
        configuration = self._configuration(bundle, unseen)
        origin = Origin(
            engine=engine_of(hint, bundle, state, configuration or {}),
            id=origin_id,
            name=monitor.get("name", ""),
            bundle=bundle,
            state=state.directory if state else "",
            unit=owners.unit(dict(first.groups)),
            user=self._user(user),
        )
        return self.completed(origin, configuration or {}, unseen), tuple(unseen)

    def completed(self, origin: Origin, configuration: Document, unseen: list[str]) -> Origin:
        """Return an origin with name, image and pod, as far as the engine wrote them."""
        pod, name, image = described(origin.engine, _annotations(configuration))
        if origin.engine == "docker":
            name, image, pod = self._docker(origin, configuration, unseen)
        elif origin.engine in {"podman", "cri-o"} and not pod:
            stored = self._stored_container(origin, unseen)
            names = stored.get("names")
            name = name or (str(names[0]) if isinstance(names, list) and names else "")
            image = image or _image_name(stored)
        if origin.user and not self._is_inner:
            pod = None  # the kubelet's engine is root's, and users write what they like
        return replace(origin, name=name or origin.name, image=image, pod=pod)

    def _user(self, number: int) -> str:
        """Return the user of a rootless engine; empty if root runs the container."""
        if not number:
            return ""
        if self._is_inner:
            return str(number)  # the accounts of a container are not the host's
        if number not in self._users:
            self._users[number] = owners.user_name(number, self._tree)
        return self._users[number]

    def _state(self, first: Process, user: int, ids: list[str], unseen: list[str]) -> State | None:
        """Return the runtime's state whose first process this is.

        Only root and the user of a container tell what it is.
        """
        directories = self._directories
        if not self._is_inner:
            directories = [path for path in directories if records.user_of(path) in {"", str(user)}]
        for container_id in ids:
            for directory in directories:
                state = self._read_state(f"{directory}/{container_id}", unseen)
                if state is not None and self._is_of(state, first):
                    return state
        # A container whose control group does not have its name, `crun --cgroup-manager=disabled`
        # for instance.
        key = first.start_time if self._is_inner else first.pid
        for directory in directories:
            state = self._states_in(directory).get(key)
            if state is not None and self._is_of(state, first):
                return state
        return None

    def _states_in(self, directory: str) -> dict[int, State]:
        """Return all states in a directory; what is no state is not this container's fault."""
        if directory not in self._states:
            states = self._states[directory] = {}
            for name in self._tree.names(directory):
                state = self._read_state(f"{directory}/{name}", [])
                if state is not None:
                    states[state.start_time if self._is_inner else state.pid] = state
        return self._states[directory]

    def _is_of(self, state: State, first: Process) -> bool:
        """Whether a state is of this process, not of an earlier one with its number."""
        if self._is_inner:
            return not state.start_time or state.start_time == first.start_time
        return state.pid == first.pid and state.start_time in {0, first.start_time}

    def _read_state(self, directory: str, unseen: list[str]) -> State | None:
        name = os.path.basename(directory)
        if name in {"", ".", ".."} or "\0" in name or len(name) > _LONGEST_NAME:
            return None
        user = "0" if self._is_inner else records.user_of(directory)
        if user and self._bytes_of_user.get(user, 0) > MAX_USER_BYTES:
            return None
        before = self._tree.bytes_read
        try:
            return records.state_in(self._tree, directory)
        except RecordError as error:
            unseen.append(error.message)
            return None
        finally:
            read = self._tree.bytes_read - before
            self._bytes_of_user[user] = self._bytes_of_user.get(user, 0) + read

    def _monitor(self, first: Process) -> dict[str, str]:
        """Return what the command line of the container's monitor says."""
        parent = self._processes.get(first.parent)
        if parent is None or not parent.name.startswith((SHIM, CONMON)):
            return {}
        try:
            with ProcessDirectory(parent.pid, self._proc) as directory:
                words = directory.words()
                if parent.name.startswith(CONMON):
                    return conmon(words)
                tasks = os.path.dirname(directory.link("cwd"))
        except OSError:
            return {}
        if tasks not in self._tasks and tasks.rpartition("/")[0].endswith(".task"):
            self._tasks.append(tasks)
        return {}

    def _bundle(self, container_id: str) -> str:
        if not container_id or "/" in container_id:
            return ""
        for tasks in self._tasks:
            bundle = f"{tasks}/{container_id}"
            if "config.json" in self._tree.names(bundle):
                return bundle
        return ""

    def _configuration(self, bundle: str, unseen: list[str]) -> Document | None:
        if not bundle.startswith("/"):
            return None
        try:
            return self._tree.configuration(bundle)
        except RecordError as error:
            unseen.append(error.message)
            return None

    def _docker(
        self, origin: Origin, configuration: Document, unseen: list[str]
    ) -> tuple[str, str, Pod | None]:
        """Return name, image and pod from what dockerd wrote about a container."""
        directory = docker_directory(origin.id, configuration)
        try:
            document = self._tree.document(f"{directory}/config.v2.json", records.MAX_STATE) or {}
        except RecordError as error:
            unseen.append(error.message)
            document = {}
        settings = _object(document, "Config")
        name = _text(document, "Name").removeprefix("/")
        pod, _, _ = described(origin.engine, _object(settings, "Labels"))
        return (
            name,
            _text(settings, "Image"),
            pod if pod and name.startswith(dockershim(pod)) else None,
        )

    def _stored_container(self, origin: Origin, unseen: list[str]) -> Document:
        """Return what containers/storage has about a container of Podman or CRI-O."""
        # STORAGE/overlay-containers/ID/userdata
        directory = os.path.dirname(os.path.dirname(origin.bundle))
        if not directory.endswith("-containers"):
            return {}
        if directory not in self._stored:
            try:
                stored = records.stored_containers(self._tree, directory)
            except RecordError as error:
                unseen.append(error.message)
                stored = []
            self._stored[directory] = {_text(item, "id"): item for item in stored}
        return self._stored[directory].get(origin.id, {})


def conmon(words: Sequence[str]) -> dict[str, str]:
    """Return id, bundle and name from the command line of conmon.

    >>> conmon(["conmon", "-c", "7f", "-b", "/bundle", "-n", "web"])
    {'id': '7f', 'bundle': '/bundle', 'name': 'web'}
    """
    options = {
        **dict.fromkeys(("-c", "--cid"), "id"),
        **dict.fromkeys(("-b", "--bundle"), "bundle"),
        **dict.fromkeys(("-n", "--name"), "name"),
    }
    values: dict[str, str] = {}
    for word, value in pairwise(words):
        if word in options:
            values.setdefault(options[word], value)
    return values


def engine_of(hint: str, bundle: str, state: State | None, configuration: Document) -> str:
    """Return the engine of a container by the evidence; empty if there is none."""
    if hint:
        return hint
    annotations = _annotations(configuration)
    if "/moby/" in f"{bundle}/" or (state and "/moby/" in f"{state.directory}/"):
        return "docker"
    # Podman before 5 also has annotations of CRI-O: io.kubernetes.cri-o.TTY.
    if annotations.get("io.container.manager") == "libpod":
        return "podman"
    if any(key.startswith(_CRIO) for key in annotations):
        return "cri-o"
    if "nerdctl/namespace" in annotations:
        return "nerdctl"
    if ".task/" in bundle or (state and "/containerd/" in state.directory):
        return "containerd"
    return state.runtime if state else ""


def described(engine: str, labels: Mapping[str, Any]) -> tuple[Pod | None, str, str]:
    """Return pod, name and image from the annotations or labels that an engine writes.

    Authors of images and pods add annotations and labels of their own, so each engine is asked only
    for those that it writes itself, over theirs.
    """

    def first(*keys: str) -> str:
        values = (labels.get(key) for key in keys)
        return next((value for value in values if isinstance(value, str) and value), "")

    if engine == "containerd":
        image = first(f"{_CRI}image-name")
        keys = [f"{_CRI}{key}" for key in ("container-name", "sandbox-name", "sandbox-namespace")]
        keys.append(f"{_CRI}sandbox-uid")
    elif engine in {"cri-o", "docker"}:  # cri-dockerd
        image = first(f"{_CRIO}ImageName", f"{_CRIO}Image")
        keys = [f"{_KUBELET}{key}" for key in ("container.name", "pod.name", "pod.namespace")]
        keys.append(f"{_KUBELET}pod.uid")
    else:
        return None, first("nerdctl/name") if engine == "nerdctl" else "", ""
    name, pod_name, namespace, uid = map(first, keys)
    if not pod_name:
        return None, name, image
    return Pod(namespace=namespace, name=pod_name, container=name, uid=uid), name, image


def dockershim(pod: Pod) -> str:
    """Return the beginning of the name that cri-dockerd gives to a container of a pod.

    Labels may also be those of an image; the name is not.
    """
    return f"k8s_{pod.container}_{pod.name}_{pod.namespace}_{pod.uid}_"


def docker_directory(container_id: str, configuration: Document) -> str:
    """Return the directory of dockerd for a container, wherever its data directory is."""
    end = f"/containers/{container_id}"
    mounts = configuration.get("mounts")
    for mount in mounts if isinstance(mounts, list) else ():
        source = mount.get("source") if isinstance(mount, dict) else None
        if isinstance(source, str) and os.path.dirname(source).endswith(end):
            return os.path.dirname(source)
    return f"/var/lib/docker{end}"


def _image_name(stored: Document) -> str:
    from cdi_base import strict_json  # noqa: PLC0415 - for the few containers of Podman

    try:
        metadata = strict_json.parse(_text(stored, "metadata") or "{}")
    except strict_json.JSONError:
        return ""
    return _text(metadata, "image-name") if isinstance(metadata, dict) else ""


def _annotations(configuration: Document) -> Document:
    return _object(configuration, "annotations")


def _object(document: Document, key: str) -> Document:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(document: Document, key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
