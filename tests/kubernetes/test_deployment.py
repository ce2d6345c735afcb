# SPDX-License-Identifier: Apache-2.0
"""The chart in a real cluster: its pods with the users, capabilities, mounts and roles of the chart."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY
from tests.lab import prometheus
from tests.lab.kubernetes import configuration, control_plane, gpu_host, programs
from tests.lab.kubernetes.charts import NAMESPACE, Charts, in_lab
from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.manifests import Manifest, pod
from tests.lab.kubernetes.network import Api, ApiError
from tests.lab.kubernetes.process import SHARED as SHARED_FOLDER
from tests.lab.kubernetes.waiting import until
from tests.metrics.scraping import cluster_configuration
from tests.packaging.conftest import shared
from tools.image.__main__ import build

GPU = "nvidia.com/gpu"
CREATED = "--set=namespace.create=true"
SHARED = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}\n"

EnterCluster = Callable[..., AbstractContextManager[Cluster]]


@pytest.fixture(scope="module", params=programs.VERSIONS)
def cluster(
    request: pytest.FixtureRequest,
    enter_cluster: EnterCluster,
    host: Callable[[str], FakeHost],
    prometheus_of: Callable[[str], Path],
) -> Iterator[Cluster]:
    prometheus_of(prometheus.NEWEST)
    furniture = gpu_host.furniture(host("550-8gpu"))
    furniture["binds"] |= prometheus.binds()
    with enter_cluster(request.param, "2.2", **furniture) as entered:
        entered.kubectl("label", "node", configuration.NODE, "nvidia.com/gpu.present=true")
        yield entered


def show(cluster: Cluster) -> str:
    """Return what the pods of the chart say, for the message of a failure."""
    words = (f"--namespace={NAMESPACE}",)
    parts = [cluster.kubectl("describe", "pods", *words).stdout[-6000:]]
    return "\n".join([*parts, *(log(cluster, part) for part in ("device-plugin", "labels"))])


def apply(cluster: Cluster, manifests: list[Manifest], *, image: bool = False) -> None:
    """Apply objects; a field that the API server does not know is an error.

    The pods run this checkout, or the image.
    """
    adapted = manifests if image else [in_lab(manifest) for manifest in manifests]
    items = {"apiVersion": "v1", "kind": "List", "items": adapted}
    words = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "--filename=-")
    cluster.kubectl(*words, stdin=json.dumps(items))


def pods(cluster: Cluster, part: str) -> list[dict[str, Any]]:
    selector = f"app.kubernetes.io/component={part}"
    found = cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={selector}")
    items: list[dict[str, Any]] = found["items"]
    return items


def is_ready(cluster: Cluster, part: str) -> bool:
    name = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/cdi-gen-{part}"
    daemon_set: dict[str, Any] = cluster.api.get(name)
    status = daemon_set["status"]
    is_observed: bool = status.get("observedGeneration") == daemon_set["metadata"]["generation"]
    numbers = (status.get("updatedNumberScheduled"), status.get("numberAvailable"))
    return is_observed and numbers == (1, 1)


def log(cluster: Cluster, part: str) -> str:
    return cluster.kubectl(
        "logs", f"--namespace={NAMESPACE}", f"daemonset/cdi-gen-{part}", check=False
    ).stdout


@pytest.mark.parametrize(
    "values",
    [
        ("nodeSetup.enabled=true", "nri.enabled=true"),
        (
            "labels.output=nodeFeature",
            "config.files.a=version: v1",
            "deviceAccess=annotation",
            "nri.enabled=true",
        ),
        ("runtimeClasses.enabled=true", "deviceAccess=runtimeClass"),
        ("mps.enabled=true", "config.files.a=version: v1"),
        ("metrics.enabled=true", "metrics.webConfigSecret=web", "deviceAccess=none"),
    ],
    ids=",".join,
)
def test_the_api_server_accepts_every_field(
    cluster: Cluster, charts: Charts, values: tuple[str, ...]
) -> None:
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    text = charts.text(CREATED, *(f"--set={value}" for value in values))
    words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-")
    done = cluster.kubectl(*words, stdin=text)
    assert "Warning" not in done.stderr
    assert "daemonset.apps/cdi-gen-device-plugin serverside-applied" in done.stdout


def test_an_overlay_that_is_applied_after_another_leaves_what_one_command_removes(
    cluster: Cluster, charts: Charts
) -> None:
    """The set-up of the engine ran on, with a hook that the specs did not name any more."""
    page = (REPOSITORY / "docs/cluster.md").read_text()
    (command,) = (line.split() for line in page.splitlines() if "kubectl delete daemonset" in line)
    for name in ("node-setup", "nri"):
        apply(cluster, charts.kustomized(f"overlays/{name}"), image=True)
    everything = f"daemonset,serviceaccount,runtimeclass --namespace={NAMESPACE} -o name".split()
    before = set(cluster.kubectl("get", *everything).stdout.split())
    cluster.kubectl(*command[1:])
    removed = before - set(cluster.kubectl("get", *everything).stdout.split())
    assert removed == {
        "daemonset.apps/cdi-gen-setup-node",
        "serviceaccount/cdi-gen-setup-node",
        *(f"runtimeclass.node.k8s.io/nvidia{end}" for end in ("", "-cdi", "-legacy")),
    }
    assert "daemonset.apps/cdi-gen-nri" in before - removed
    cluster.kubectl("delete", "daemonset", "--all", f"--namespace={NAMESPACE}")


@pytest.mark.parametrize(
    ("access", "refusal"),
    [("none", "Operation not permitted"), ("privileged", "No such device or address")],
)
def test_the_pods_make_a_gpu_node(
    cluster: Cluster, charts: Charts, access: str, refusal: str
) -> None:
    """Without a capability too; but the cgroup of such a pod then keeps NVML from the GPUs.

    The nodes of a fake host have no driver behind them, so that opening one fails in both cases.
    """
    apply(cluster, charts.rendered(CREATED, f"--set=deviceAccess={access}"))
    until(lambda: cluster.allocatable(GPU) == 8, "eight GPUs", seconds=90)
    for part in ("device-plugin", "labels"):
        until(partial(is_ready, cluster, part), f"{part} is ready", seconds=90)
        program = ("/usr/bin/python3", "-c", "open('/host/dev/nvidia0')")
        daemon_set = (f"--namespace={NAMESPACE}", f"daemonset/cdi-gen-{part}")
        done = cluster.kubectl("exec", *daemon_set, "--", *program, check=False)
        assert refusal in done.stderr

    def labels() -> dict[str, str]:
        found: dict[str, str] = cluster.node_object()["metadata"]["labels"]
        return found

    until(lambda: labels().get("nvidia.com/gpu.count") == "8", "the labels", seconds=90)
    script = "ls /dev | grep -cE '^nvidia[0-9]+$'"
    cluster.apply(pod("two", "/bin/sh", "-c", script, limits={GPU: 2}))
    cluster.wait("two", "Succeeded", seconds=90)
    assert cluster.log("two") == "2\n"
    cluster.delete("two")


@pytest.mark.parametrize("access", ["none", "privileged"])
def test_the_metrics_have_the_pods(cluster: Cluster, charts: Charts, access: str) -> None:
    """Without `privileged` too: the capability SYS_PTRACE is enough to see the containers."""
    values = f"--set=deviceAccess={access},metrics.enabled=true"
    apply(cluster, charts.rendered(CREATED, values, "--set=metrics.args={--interval=1s}"))
    until(lambda: cluster.allocatable(GPU) == 8, "eight GPUs", seconds=90)
    until(partial(is_ready, cluster, "metrics"), "metrics is ready", seconds=90)
    cluster.apply(pod("busy", "/bin/sleep", "1000", limits={GPU: 1}))
    cluster.wait("busy", "Running", seconds=90)
    code = (
        "import urllib.request as r; "
        "print(r.urlopen('http://127.0.0.1:9400/metrics').read().decode())"
    )
    daemon_set = (f"--namespace={NAMESPACE}", "daemonset/cdi-gen-metrics")
    program = ("/usr/bin/python3", "-c", code)
    text = ""

    def has_pod() -> bool:
        nonlocal text
        text = cluster.kubectl("exec", *daemon_set, "--", *program, check=False).stdout
        return "cdi_gen_container_info{" in text and 'pod="busy"' in text

    until(has_pod, f"the pod is in the metrics: {text}", seconds=90)
    assert "\ncdi_gen_metrics_unseen 0\n" in text
    prometheus_finds_the_pods(cluster)
    cluster.delete("busy")


def prometheus_finds_the_pods(cluster: Cluster) -> None:
    """By deploy/monitoring/prometheus/kubernetes.yml; the labels are those of the pod with the GPU."""
    scraped = cluster_configuration(control_plane.SERVER, "admin", Path("/opt/cdi-gen"))
    with prometheus.in_lab(cluster.node.inside, scraped) as server:
        (sample,) = server.wait_for("cdi_gen_container_gpu_held")
        names = ("job", "instance", "namespace", "pod", "container")
        expected = ["cdi-gen", configuration.NODE, "default", "busy", "main"]
        assert [sample.labels[name] for name in names] == expected
        (target,) = server.targets()
        assert target["health"] == "up"


def test_the_label_of_the_node_chooses_a_config(cluster: Cluster, charts: Charts) -> None:
    files = {"plain": "version: v1\n", "shared": SHARED}
    values = json.dumps({"files": files, "default": "plain"})
    apply(
        cluster, charts.rendered(CREATED, "--set=deviceAccess=none", f"--set-json=config={values}")
    )
    until(lambda: is_ready(cluster, "device-plugin"), "the new pod is ready", seconds=120)
    until(lambda: cluster.allocatable(GPU) == 8, "eight GPUs", seconds=90)
    cluster.kubectl("label", "node", configuration.NODE, "nvidia.com/device-plugin.config=shared")
    until(lambda: cluster.allocatable(GPU) == 32, "the label is followed", seconds=90)
    cluster.kubectl("label", "node", configuration.NODE, "nvidia.com/device-plugin.config-")
    until(lambda: cluster.allocatable(GPU) == 8, "the label is removed", seconds=90)


def test_the_account_of_the_labels_may_change_only_labels_of_its_node(
    cluster: Cluster, charts: Charts
) -> None:
    apply(cluster, charts.rendered(CREATED, "--set=deviceAccess=none"))
    until(lambda: is_ready(cluster, "labels"), "the labels run", seconds=90)
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}})
    of_pod = (
        "--bound-object-kind=Pod",
        f"--bound-object-name={pods(cluster, 'labels')[0]['metadata']['name']}",
    )
    words = ("create", "token", "cdi-gen-labels", f"--namespace={NAMESPACE}")
    bound = cluster.kubectl(*words, *of_pod).stdout.strip()
    unbound = cluster.kubectl(*words).stdout.strip()

    def refusal(node: str, changes: dict[str, Any], token: str = bound) -> str:
        """Return why the API server refuses a change; empty if it does not."""
        try:
            Api(cluster.node.network, control_plane.SERVER, token).patch(path(node), changes)
        except ApiError as error:
            return str(error)
        return ""

    label = {"metadata": {"labels": {"nvidia.com/test": "1"}}}
    own = configuration.NODE
    until(lambda: "only the node on which they run" in refusal("other", label), "it is in force")
    assert refusal(own, label) == ""
    assert "only the node on which they run" in refusal(own, label, unbound)
    role = {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}
    assert "only labels of nvidia.com" in refusal(own, role)
    assert "only labels of nvidia.com" in refusal(
        own, {"metadata": {"labels": {"kubernetes.io/hostname": None}}}
    )
    assert "may change only labels" in refusal(own, {"spec": {"unschedulable": True}})
    assert "may change only labels" in refusal(own, {"metadata": {"annotations": {"a": "b"}}})


def path(node: str) -> str:
    return f"/api/v1/nodes/{node}"


def test_all_parts_together(cluster: Cluster, charts: Charts) -> None:
    """The plugin waits for the hook that the set-up installs; the engine of the lab has no service
    that would start it again, so that it is not restarted and its handlers are not used."""
    values = ("nodeSetup.enabled=true", "nri.enabled=true", "nodeSetup.args={--restart-mode=none}")
    apply(cluster, charts.rendered(CREATED, *(f"--set={value}" for value in values)))
    for part in ("setup-node", "nri", "labels", "device-plugin"):
        until(partial(is_ready, cluster, part), f"{part} is ready", seconds=120)
    until(lambda: "is registered" in log(cluster, "nri"), "the engine asks the plugin", seconds=60)
    until(lambda: cluster.allocatable(GPU) == 8, "eight GPUs", seconds=90)
    script = "ls /dev | grep -cE '^nvidia[0-9]+$'; ls /etc/ld.so.conf.d"
    cluster.apply(pod("hooked", "/bin/sh", "-c", script, limits={GPU: 1}))
    cluster.wait("hooked", "Succeeded", seconds=90)
    count, *files = cluster.log("hooked").splitlines()
    assert count == "1"
    assert files, "the hook has written no directory of libraries"
    cluster.delete("hooked")
    annotation = {"nvidia.cdi.k8s.io/container.main": "management.nvidia.com/gpu=all"}
    manages = pod(
        "manages", "/bin/sh", "-c", "ls /dev/nvidia0 && sleep 1000", annotations=annotation
    )
    manages["metadata"]["namespace"] = NAMESPACE
    cluster.apply(manages)
    name = f"/api/v1/namespaces/{NAMESPACE}/pods/manages"
    until(lambda: cluster.api.get(name)["status"]["phase"] == "Running", "it runs", seconds=90)
    cluster.api.delete(name)


def test_the_plugin_waits_for_mps_daemons_of_another_pod(cluster: Cluster, charts: Charts) -> None:
    """The driver of the fake host has no MPS: the reason is what the pod of the daemons says."""
    files = {"shared": SHARED.replace("timeSlicing", "mps")}
    values = json.dumps({"files": files, "default": "shared"})
    apply(
        cluster, charts.rendered(CREATED, "--set=mps.enabled=true", f"--set-json=config={values}")
    )
    until(lambda: is_ready(cluster, "mps"), "the pod of the daemons runs", seconds=90)
    until(lambda: "nvidia-cuda-mps-control" in log(cluster, "mps"), "it says why", seconds=90)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the image of this checkout."""

    def write(directory: Path) -> None:
        content, _ = build(platform.machine(), REPOSITORY, "0" * 40, 1_700_000_000)
        (directory / "image.tar").write_bytes(content)

    return shared(tmp_path_factory, "image-of-deployment", write) / "image.tar"


def test_the_chart_and_the_image_as_they_are_make_a_gpu_node(
    cluster: Cluster, charts: Charts, image: Path
) -> None:
    """What the README has, except of a registry, and of the restart of the engine."""
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    shutil.copy(image, cluster.node.shared / "image.tar")
    words = ("ctr", "--namespace", "k8s.io", "images", "import", f"{SHARED_FOLDER}/image.tar")
    cluster.node.run(*words)
    values = ("nodeSetup.enabled=true", "nri.enabled=true", "nodeSetup.args={--restart-mode=none}")
    apply(cluster, charts.rendered(CREATED, *(f"--set={value}" for value in values)), image=True)
    for part in ("setup-node", "nri", "labels", "device-plugin"):
        until(partial(is_ready, cluster, part), f"{part} is ready", seconds=120)
    until(lambda: "is registered" in log(cluster, "device-plugin"), "it is registered", seconds=90)
    script = "ls /dev | grep -cE '^nvidia[0-9]+$'; ls /etc/ld.so.conf.d"
    cluster.apply(pod("of-image", "/bin/sh", "-c", script, limits={GPU: 1}))
    cluster.wait("of-image", "Succeeded", seconds=90)
    assert cluster.log("of-image") == "1\n00-cdi-gen.conf\n"
