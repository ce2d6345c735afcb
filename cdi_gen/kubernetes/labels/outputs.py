# SPDX-License-Identifier: Apache-2.0
"""Where the labels of a node go: a file or an object for Node Feature Discovery, or the node."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from cdi_base import files
from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.labels.resource_labels import Labels

if TYPE_CHECKING:
    from cdi_gen.kubernetes.api import Api

GROUP = "nfd.k8s-sigs.io"
VERSION = "v1alpha1"
NODE_LABEL = "nfd.node.kubernetes.io/node-name"
"""The label of a NodeFeature object by which Node Feature Discovery finds the node."""

FIELD_MANAGER = "cdi-gen-labels"
"""The owner of the node's labels, as the API server keeps it: labels that are no longer published
are removed from the node."""

FORBIDDEN = 403
NOT_FOUND = 404
CONFLICT = 409


class Output(Protocol):
    """A place for the labels."""

    def publish(self, labels: Labels) -> str | None:
        """Publish the labels; return a text that says where, or None if nothing has changed.

        Raises:
            CdiGenError: the labels cannot be published.
        """

    def withdraw(self) -> None:
        """Remove what does not outlive this process."""


class StandardOutput:
    """Prints the labels."""

    def publish(self, labels: Labels) -> None:
        """Print the labels, one a line."""
        sys.stdout.write(_text(labels))
        sys.stdout.flush()

    def withdraw(self) -> None:
        """Do nothing."""


class FeatureFile:
    """A file in the directory ``features.d`` of Node Feature Discovery.

    Args:
        path: the file.
        temporary: whether the file is removed when the process ends.
    """

    def __init__(self, path: str, *, temporary: bool) -> None:
        self._path = path
        self._temporary = temporary

    def publish(self, labels: Labels) -> str | None:
        """Replace the file in one step, unless it has these labels."""
        content = _text(labels).encode()
        try:
            if _content(self._path, len(content) + 1) == content:
                return None
            files.replace_file(self._path, content)
        except OSError as error:
            directory = os.path.dirname(self._path) or "."
            raise CdiGenError(
                f"cannot write {self._path}: {error.strerror or error}",
                hint=f"mount the host's directory {directory} into the container"
                if not os.path.isdir(directory)
                else None,
                code="CDG-N305",
                subject=self._path,
            ) from error
        return self._path

    def withdraw(self) -> None:
        """Remove the file, if it is temporary: a node without the process has no labels."""
        if self._temporary:
            try:
                os.unlink(self._path)
            except OSError:
                return  # it has been removed


class NodeFeature:
    """The NodeFeature object of the node, which Node Feature Discovery turns into labels.

    Args:
        api: the API server.
        node: the name of the node.
        namespace: the namespace of the object.
        pod: the pod of this process, whose DaemonSet owns the object; empty: it is not known.
        report: prints a finding.
    """

    def __init__(
        self, api: Api, node: str, namespace: str, pod: str, report: Callable[[Finding], None]
    ) -> None:
        self._api = api
        self._node = node
        self._namespace = namespace
        self._pod = pod
        self._report = report
        self._owners: list[dict[str, Any]] | None = None
        self._may_change_owners = True
        """The admission controller OwnerReferencesPermissionEnforcement lets only those change the
        owners of an object who may delete it."""

    def publish(self, labels: Labels) -> str | None:
        """Create or update the object."""
        from cdi_gen.kubernetes.api import ApiError  # noqa: PLC0415 - files do without

        name = f"nvidia-features-for-{self._node}"
        collection = f"/apis/{GROUP}/{VERSION}/namespaces/{self._namespace}/nodefeatures"
        for attempt in (1, 2):
            existing = self._get(f"{collection}/{name}")
            wanted = self._object(name, labels, existing)
            if wanted == existing:
                return None
            try:
                if existing is None:
                    self._api.request("POST", collection, wanted)
                else:
                    self._api.request("PUT", f"{collection}/{name}", wanted)
            except ApiError as error:
                if error.status == CONFLICT and attempt == 1:
                    continue  # another process has changed the object
                if error.status == FORBIDDEN and existing and self._may_change_owners:
                    self._may_change_owners = False
                    continue
                if error.status == NOT_FOUND:
                    error.hint = (
                        "install Node Feature Discovery 0.12 or newer, or give --patch-node or "
                        "--output-file; look whether the namespace exists"
                    )
                raise
            break
        return f"NodeFeature {self._namespace}/{name}"

    def withdraw(self) -> None:
        """Do nothing: Kubernetes removes the object with its owners."""

    def _get(self, path: str) -> dict[str, Any] | None:
        from cdi_gen.kubernetes.api import ApiError  # noqa: PLC0415 - files do without

        try:
            return self._api.request("GET", path)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def _object(self, name: str, labels: Labels, existing: dict[str, Any] | None) -> dict[str, Any]:
        """Return the object; an existing one keeps its owners if they are not to be changed."""
        from cdi_gen.kubernetes.api import table  # noqa: PLC0415 - files do without

        owners = self._daemon_set() if self._may_change_owners or existing is None else []
        metadata = dict(table((existing or {}).get("metadata")))
        metadata |= {
            "name": name,
            "namespace": self._namespace,
            "labels": {**table(metadata.get("labels")), NODE_LABEL: self._node},
        }
        if owners:
            metadata["ownerReferences"] = owners
        return {
            **(existing or {"apiVersion": f"{GROUP}/{VERSION}", "kind": "NodeFeature"}),
            "metadata": metadata,
            "spec": {
                "features": {"flags": {}, "attributes": {}, "instances": {}},
                "labels": dict(labels),
            },
        }

    def _daemon_set(self) -> list[dict[str, Any]]:
        """Return the DaemonSet of this process as the owner; nothing if it cannot be found.

        The pod is no owner, as it is for gpu-feature-discovery: each new pod would have to change
        the owners of the object.
        """
        if self._owners is None:
            self._owners = self._find_daemon_set() if self._pod else []
        return self._owners

    def _find_daemon_set(self) -> list[dict[str, Any]]:
        from cdi_gen.kubernetes.api import ApiError, table  # noqa: PLC0415 - files do without

        try:
            pod = self._api.request("GET", f"/api/v1/namespaces/{self._namespace}/pods/{self._pod}")
        except ApiError as error:
            message = f"the object for Node Feature Discovery gets no owner: {error.message}"
            self._report(Finding("CDG-N311", "warning", message, subject=self._pod))
            return []
        fields = ("apiVersion", "kind", "name", "uid")
        references = table(pod.get("metadata")).get("ownerReferences")
        owners = map(table, references if isinstance(references, list) else ())
        return [
            {**{field: owner.get(field) for field in fields}, "controller": True}
            for owner in owners
            if owner.get("kind") == "DaemonSet"
        ]


class NodeLabels:
    """The labels of the node itself, for clusters without Node Feature Discovery."""

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._node = node
        self._published: Labels | None = None

    def publish(self, labels: Labels) -> str | None:
        """Apply the labels to the node; labels of an earlier time are removed."""
        from cdi_gen.kubernetes.api import APPLY  # noqa: PLC0415 - files do without

        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._node, "labels": dict(labels)},
        }
        path = f"/api/v1/nodes/{self._node}?fieldManager={FIELD_MANAGER}&force=true"
        self._api.request("PATCH", path, body, content_type=APPLY)
        before, self._published = self._published, labels
        return None if before == labels else f"node {self._node}"

    def withdraw(self) -> None:
        """Do nothing: pods that select the node by the labels may be running."""


def _text(labels: Labels) -> str:
    return "".join(f"{name}={value}\n" for name, value in sorted(labels.items()))


def _content(path: str, limit: int) -> bytes | None:
    """Return the content of a regular file; None if there is none."""
    try:
        descriptor = files.open_regular(path)
    except OSError:
        return None
    try:
        return files.beginning(descriptor, limit)
    finally:
        os.close(descriptor)
