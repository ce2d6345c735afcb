# SPDX-License-Identifier: Apache-2.0
"""Where the labels of a node go: a feature file, a NodeFeature object, the node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.access import Access
from cdi_gen.kubernetes.api import Api, ApiError
from cdi_gen.kubernetes.labels.outputs import FeatureFile, NodeFeature, NodeLabels
from tests.kubernetes.api_server import ApiServer, api_server

LABELS = {"nvidia.com/gpu.count": "8", "nvidia.com/gpu.product": "NVIDIA-H200"}
FEATURES = "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/gpu/nodefeatures"
FEATURE = f"{FEATURES}/nvidia-features-for-node-1"
NODE = "/api/v1/nodes/node-1"
POD = "/api/v1/namespaces/gpu/pods/labels-x"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        running.collections.add(FEATURES)
        running.objects[NODE] = {"metadata": {"labels": {"zone": "a"}, "resourceVersion": "7"}}
        yield running


def api(server: ApiServer, **options: Any) -> Api:
    return Api(Access(server=server.url, **options), {})


@pytest.fixture
def reports() -> list[Finding]:
    return []


@pytest.fixture
def feature(server: ApiServer, reports: list[Finding]) -> NodeFeature:
    return NodeFeature(api(server), "node-1", "gpu", "", reports.append)


class TestNodeFeature:
    def test_the_object_is_created(self, server: ApiServer, feature: NodeFeature) -> None:
        assert feature.publish(LABELS) == "NodeFeature gpu/nvidia-features-for-node-1"
        created = server.objects[FEATURE]
        assert created["apiVersion"] == "nfd.k8s-sigs.io/v1alpha1"
        assert created["kind"] == "NodeFeature"
        assert created["metadata"]["namespace"] == "gpu"
        assert created["metadata"]["labels"] == {"nfd.node.kubernetes.io/node-name": "node-1"}
        assert "ownerReferences" not in created["metadata"]
        assert created["spec"] == {
            "features": {"flags": {}, "attributes": {}, "instances": {}},
            "labels": LABELS,
        }

    def test_an_unchanged_object_is_not_written(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        feature.publish(LABELS)
        server.requests.clear()
        assert feature.publish(dict(LABELS)) is None
        assert server.requests == [("GET", FEATURE)]

    def test_a_changed_object_is_updated_and_keeps_what_others_wrote(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        feature.publish(LABELS)
        metadata = server.objects[FEATURE]["metadata"]
        metadata["annotations"] = {"a": "b"}
        metadata["labels"]["team"] = "c"
        assert feature.publish({"nvidia.com/gpu.count": "7"})
        updated = server.objects[FEATURE]
        assert updated["spec"]["labels"] == {"nvidia.com/gpu.count": "7"}
        assert updated["metadata"]["annotations"] == {"a": "b"}
        assert updated["metadata"]["labels"]["team"] == "c"

    def test_an_object_that_was_deleted_is_created_again(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        feature.publish(LABELS)
        del server.objects[FEATURE]
        assert feature.publish(LABELS)
        assert FEATURE in server.objects

    def test_a_conflict_is_resolved(
        self, server: ApiServer, feature: NodeFeature, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feature.publish(LABELS)
        answer, conflicts = server.answer, iter([True, False])

        def conflicting(method: str, path: str, kind: str, body: Any) -> tuple[int, Any]:
            if method == "PUT" and next(conflicts):
                server.objects[FEATURE]["metadata"]["resourceVersion"] = "40"
            return answer(method, path, kind, body)

        monkeypatch.setattr(server, "answer", conflicting)
        assert feature.publish({"nvidia.com/gpu.count": "7"})
        assert server.objects[FEATURE]["spec"]["labels"] == {"nvidia.com/gpu.count": "7"}

    @pytest.fixture
    def owner(self, server: ApiServer) -> dict[str, Any]:
        """The reference to the DaemonSet of the pod."""
        owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "labels", "uid": "1"}
        owner["controller"] = True  # type: ignore[assignment]
        metadata = {"name": "labels-x", "uid": "2", "ownerReferences": [owner]}
        server.objects[POD] = {"metadata": metadata}
        return owner

    def test_the_owner_is_the_daemon_set_for_every_pod(
        self, server: ApiServer, owner: dict[str, Any], reports: list[Finding]
    ) -> None:
        """NVIDIA/gpu-operator#2914 (2026): with the pod as an owner each new pod changes it.

        kubernetes-sigs/node-feature-discovery#2039 (2025): with the pod as the only owner an
        upgrade takes the labels off the node.
        """
        NodeFeature(api(server), "node-1", "gpu", "labels-x", reports.append).publish(LABELS)
        assert server.objects[FEATURE]["metadata"]["ownerReferences"] == [owner]
        server.objects[POD]["metadata"]["uid"] = "3"
        server.requests.clear()
        after = NodeFeature(api(server), "node-1", "gpu", "labels-x", reports.append)
        assert after.publish(LABELS) is None
        assert ("PUT", FEATURE) not in server.requests
        assert not reports

    def test_owners_that_may_not_be_changed_are_kept(
        self, server: ApiServer, owner: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """NVIDIA/gpu-operator#2914 (2026): the object is one of an earlier installation."""
        others = [{**owner, "uid": "0"}, {"kind": "Pod", "name": "gone", "uid": "9"}]
        metadata = {"resourceVersion": "1", "ownerReferences": others}
        server.objects[FEATURE] = {"metadata": metadata, "spec": {}}
        answer = server.answer

        def guarded(method: str, path: str, kind: str, body: Any) -> tuple[int, Any]:
            if method == "PUT" and body["metadata"].get("ownerReferences") != others:
                reason = "cannot set an ownerRef on a resource you can't delete"
                return 403, {"kind": "Status", "message": reason, "code": 403}
            return answer(method, path, kind, body)

        monkeypatch.setattr(server, "answer", guarded)
        feature = NodeFeature(api(server), "node-1", "gpu", "labels-x", lambda _: None)
        assert feature.publish(LABELS)
        assert feature.publish({"nvidia.com/gpu.count": "7"})
        assert server.objects[FEATURE]["spec"]["labels"] == {"nvidia.com/gpu.count": "7"}
        assert server.objects[FEATURE]["metadata"]["ownerReferences"] == others
        assert server.requests.count(("PUT", FEATURE)) == 3, "it was refused once"
        del server.objects[FEATURE]
        feature.publish(LABELS)
        assert server.objects[FEATURE]["metadata"]["ownerReferences"] == [owner]

    def test_an_unknown_pod_costs_only_the_owners(
        self, server: ApiServer, reports: list[Finding]
    ) -> None:
        output = NodeFeature(api(server), "node-1", "gpu", "labels-x", reports.append)
        output.publish(LABELS)
        output.publish({})
        assert [finding.code for finding in reports] == ["CDG-N311"]
        assert server.requests.count(("GET", POD)) == 1
        assert FEATURE in server.objects

    def test_a_cluster_without_node_feature_discovery_is_an_error_with_a_hint(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        server.collections.clear()
        with pytest.raises(ApiError, match="not found") as refusal:
            feature.publish(LABELS)
        assert refusal.value.code == "CDG-N308"
        assert "install Node Feature Discovery" in (refusal.value.hint or "")

    def test_a_missing_role_is_an_error_with_the_servers_reason(
        self, server: ApiServer, feature: NodeFeature
    ) -> None:
        server.faults = [(403, "nodefeatures is forbidden")]
        with pytest.raises(ApiError, match="nodefeatures is forbidden") as refusal:
            feature.publish(LABELS)
        assert "give the service account a role" in (refusal.value.hint or "")


class TestNode:
    def test_labels_are_applied_and_those_of_an_earlier_time_removed(
        self, server: ApiServer
    ) -> None:
        output = NodeLabels(api(server), "node-1")
        assert output.publish(LABELS) == "node node-1"
        assert output.publish(LABELS) is None
        assert server.objects[NODE]["metadata"]["labels"] == {"zone": "a", **LABELS}
        output.publish({"nvidia.com/gpu.count": "7"})
        expected = {"zone": "a", "nvidia.com/gpu.count": "7"}
        assert server.objects[NODE]["metadata"]["labels"] == expected


class TestFeatureFile:
    def test_the_file_has_a_label_a_line(self, tmp_path: Path) -> None:
        path = tmp_path / "gfd"
        output = FeatureFile(str(path), temporary=True)
        assert output.publish(LABELS) == str(path)
        text = "nvidia.com/gpu.count=8\nnvidia.com/gpu.product=NVIDIA-H200\n"
        assert path.read_text() == text
        assert path.stat().st_mode & 0o777 == 0o644
        inode = path.stat().st_ino
        assert output.publish(LABELS) is None
        assert path.stat().st_ino == inode
        assert output.publish({"nvidia.com/gpu.count": "7"})
        assert os.listdir(tmp_path) == ["gfd"]
        output.withdraw()
        assert not path.exists()
        output.withdraw()

    def test_a_link_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "gfd").symlink_to("secret")
        FeatureFile(str(tmp_path / "gfd"), temporary=False).publish(LABELS)
        assert (tmp_path / "secret").read_text() == "secret"
        assert (tmp_path / "gfd").is_file()

    def test_a_missing_directory_is_an_error_with_a_hint(self, tmp_path: Path) -> None:
        path = tmp_path / "features.d/gfd"
        with pytest.raises(CdiGenError, match="No such file or directory") as refusal:
            FeatureFile(str(path), temporary=False).publish(LABELS)
        assert refusal.value.code == "CDG-N305"
        assert f"mount the host's directory {path.parent}" in (refusal.value.hint or "")
