# SPDX-License-Identifier: Apache-2.0
"""The lab's own nodes and clusters: they run pods as a real cluster does, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY
from tests.lab.archives import Configuration
from tests.lab.engines import CommandFailed
from tests.lab.kubernetes import nvidia_device_plugin, packages
from tests.lab.kubernetes.cluster import Cluster
from tests.lab.kubernetes.container_engines import RELEASES, WITH_KUBERNETES
from tests.lab.kubernetes.manifests import pod
from tests.lab.kubernetes.node import BUSYBOX, Node
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until

EnterNode = Callable[..., AbstractContextManager[Node]]
EnterStandalone = Callable[..., AbstractContextManager[Standalone]]
EnterCluster = Callable[..., AbstractContextManager[Cluster]]
Furniture = Callable[[FakeHost], dict[str, Any]]

SPEC = {
    "cdiVersion": "0.6.0",
    "kind": "example.com/device",
    "containerEdits": {"env": ["OF_THE_SPEC=yes"]},
    "devices": [
        {
            "name": name,
            "containerEdits": {
                "env": [f"DEVICE={name}"],
                "deviceNodes": [{"path": f"/dev/example-{name}", "hostPath": "/dev/null"}],
            },
        }
        for name in ("a", "b")
    ],
}
SHOW = ("/bin/sh", "-c", "echo $OF_THE_SPEC $DEVICE; ls /dev | grep example")

READ_NODES = """\
token=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)
wget --no-check-certificate -q -O - --header "Authorization: Bearer $token" \
    https://10.78.0.1/api/v1/nodes 2>&1 | grep -o -e '"kind": "NodeList"' -e '403 Forbidden'
"""


@pytest.fixture(scope="module", params=WITH_KUBERNETES, ids="-".join)
def cluster(request: pytest.FixtureRequest, enter_cluster: EnterCluster) -> Iterator[Cluster]:
    with enter_cluster(*request.param) as entered:
        assert entered.node_object()["status"]["nodeInfo"]["kubeletVersion"] == request.param[0]
        yield entered


@pytest.fixture(scope="module", params=WITH_KUBERNETES, ids="-".join)
def standalone(
    request: pytest.FixtureRequest, enter_standalone: EnterStandalone
) -> Iterator[Standalone]:
    with enter_standalone(*request.param) as entered:
        yield entered


@pytest.fixture(scope="module", params=RELEASES)
def node(request: pytest.FixtureRequest, enter_node: EnterNode) -> Iterator[Node]:
    with enter_node(request.param) as entered:
        (entered.run_cdi / "example.json").write_text(json.dumps(SPEC), "utf-8")
        yield entered


def test_cluster_runs_a_pod_to_completion(cluster: Cluster) -> None:
    cluster.apply(pod("hello", "echo", "hello"))
    assert cluster.wait("hello")["status"]["phase"] == "Succeeded"
    assert cluster.log("hello") == "hello\n"


def test_cluster_reports_a_pod_that_fails(cluster: Cluster) -> None:
    cluster.apply(pod("failure", "/bin/sh", "-c", "exit 3"))
    status = cluster.wait("failure")["status"]
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


def test_pod_without_the_resource_that_it_asks_for_stays_pending(cluster: Cluster) -> None:
    cluster.apply(pod("too-much", "true", limits={"example.com/device": 1}))
    events = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=too-much"

    def reason() -> str:
        return "".join(event.get("message", "") for event in cluster.api.get(events)["items"])

    message = until(reason, "an event of the scheduler")
    assert "Insufficient example.com/device" in message
    assert cluster.pod("too-much")["status"]["phase"] == "Pending"
    cluster.delete("too-much")


def test_service_account_reads_nodes_only_with_a_role(cluster: Cluster) -> None:
    cluster.apply(pod("forbidden", "/bin/sh", "-c", READ_NODES))
    cluster.wait("forbidden", "Succeeded")
    assert cluster.log("forbidden") == "403 Forbidden\n"
    rules = ("--verb=list", "--resource=nodes")
    cluster.kubectl("create", "clusterrole", "node-reader", *rules)
    bound = ("--clusterrole=node-reader", "--serviceaccount=default:default")
    cluster.kubectl("create", "clusterrolebinding", "node-reader", *bound)
    cluster.apply(pod("allowed", "/bin/sh", "-c", READ_NODES))
    cluster.wait("allowed", "Succeeded")
    assert cluster.log("allowed") == '"kind": "NodeList"\n'


def test_daemon_set_has_a_pod_on_the_node(cluster: Cluster) -> None:
    labels = {"app": "waits"}
    container = {"name": "main", "image": BUSYBOX, "command": ["sleep", "2147483647"]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    daemon_set = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "waits", "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    cluster.apply(daemon_set)
    path = "/apis/apps/v1/namespaces/default/daemonsets/waits"
    until(lambda: cluster.api.get(path)["status"].get("numberReady") == 1, "the pod is ready")


def test_image_of_a_folder_runs_its_own_command(cluster: Cluster) -> None:
    """The name is that of a registry: kubelet takes the image that is loaded."""
    name = "registry.example/library/greeting:1.0"
    command = ("/bin/sh", "-c", "echo hi $WHOM")
    settings = Configuration(environment={"WHOM": "world"}, command=command)
    cluster.node.load_image(cluster.node.busybox, name, settings)
    cluster.apply(pod("greeting", image=name))
    cluster.wait("greeting", "Succeeded")
    assert cluster.log("greeting") == "hi world\n"


def test_static_pod_runs_to_completion(standalone: Standalone) -> None:
    standalone.apply(pod("hello", "echo", "hello"))
    assert standalone.wait("hello")["status"]["phase"] == "Succeeded"
    assert standalone.log("hello") == "hello\n"
    standalone.delete("hello")
    assert standalone.pod("hello") == {}


def test_running_pod_survives_a_killed_kubelet(standalone: Standalone) -> None:
    standalone.apply(pod("waits", "sleep", "2147483647"))
    before = standalone.wait("waits", "Running")["status"]["containerStatuses"][0]["containerID"]
    first = standalone.node.processes["kubelet"].pid
    standalone.node.restart_kubelet(signal.SIGKILL)
    assert standalone.node.processes["kubelet"].pid != first
    after = standalone.wait("waits", "Running")["status"]["containerStatuses"][0]["containerID"]
    assert after == before
    standalone.delete("waits")


def test_kubelet_deletes_other_sockets_when_it_starts(standalone: Standalone) -> None:
    """Why a device plugin has to register again."""
    other = standalone.node.device_plugins / "other.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(other))
        standalone.node.restart_kubelet()
    assert not other.exists()


def test_container_gets_the_cdi_device_of_the_field(node: Node) -> None:
    ended = node.container(*SHOW, devices=["example.com/device=b"])
    assert ended == (0, "yes b\nexample-b\n")


def test_container_gets_the_cdi_device_of_an_annotation(node: Node) -> None:
    ended = node.container(*SHOW, annotations={"cdi.k8s.io/test": "example.com/device=a"})
    assert ended == (0, "yes a\nexample-a\n")


def test_container_without_a_cdi_device_has_none(node: Node) -> None:
    assert node.container(*SHOW) == (1, "\n")


def test_container_with_an_unknown_cdi_device_is_refused(node: Node) -> None:
    with pytest.raises(CommandFailed, match=r"unresolvable CDI devices .*=c"):
        node.container(*SHOW, devices=["example.com/device=c"])


def test_node_has_the_gpus_of_a_fake_host(
    enter_node: EnterNode, with_gpus: Furniture, own_host: Callable[[str], FakeHost]
) -> None:
    with enter_node(**with_gpus(own_host("550-8gpu"))) as entered:
        generate = ("generate", "--output", "/var/run/cdi/nvidia.json")
        entered.run(*packages.CDI_GEN, *generate, env=packages.ENVIRONMENT)
        command = ("/bin/sh", "-c", "ls /dev | grep nvidia; ls /usr/bin/nvidia-smi")
        ended = entered.container(*command, devices=["nvidia.com/gpu=3"])
    nodes = ["nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools", "nvidia3", "nvidiactl"]
    assert ended == (0, "\n".join([*nodes, "/usr/bin/nvidia-smi", ""]))


def test_nvidia_device_plugin_registers_the_gpus_of_a_fake_host(
    enter_cluster: EnterCluster,
    with_nvidia_device_plugin: Furniture,
    own_host: Callable[[str], FakeHost],
) -> None:
    with enter_cluster(**with_nvidia_device_plugin(own_host("550-8gpu"))) as entered:
        options = ("--device-list-strategy=cdi-cri", "--nvidia-cdi-hook-path=/bin/true")
        environment = nvidia_device_plugin.ENVIRONMENT
        command = (*nvidia_device_plugin.DEVICE_PLUGIN, *options)
        entered.node.start("nvidia", *command, env=environment)

        def allocatable() -> int:
            entered.node.check_alive("nvidia")
            return entered.allocatable("nvidia.com/gpu")

        assert until(allocatable, "the plugin registers") == 8
        assert (entered.node.run_cdi / "k8s.device-plugin.nvidia.com-gpu.json").exists()
        labels = entered.node.run(*nvidia_device_plugin.FEATURE_DISCOVERY, "--oneshot").stdout
        assert "nvidia.com/gpu.count=8\n" in labels


def test_server_of_the_node_answers_outside(node: Node) -> None:
    (node.shared / "page").write_text("a page", "ascii")
    server = node.start("httpd", "busybox", "httpd", "-f", "-p", "8080", "-h", "/lab")
    text = until(lambda: node.network.get("http://127.0.0.1:8080/page"), "httpd answers")
    assert text == "a page"
    assert server.stop() == -signal.SIGTERM


def test_program_that_ended_is_seen(node: Node) -> None:
    process = node.start("fails", "/bin/sh", "-c", "echo $NAME; exit 3", env={"NAME": "value"})
    assert process.wait() == 3
    assert process.text() == "value\n"


def test_node_leaves_nothing_behind(enter_node: EnterNode) -> None:
    with enter_node() as entered:
        folder, init = entered.folder, Path(f"/proc/{entered.inside.init}")
        groups = control_groups(init)
        entered.start("waits", "sleep", "2147483647")
        assert all(group.is_dir() for group in groups)
        assert groups
    assert [path for path in (folder, init, *groups) if path.exists()] == []
    mounts = Path("/proc/self/mountinfo").read_text("utf-8")
    assert str(folder) not in mounts


def test_node_of_a_killed_test_leaves_nothing_behind(enter_node: EnterNode) -> None:
    script = """\
        import time
        from tests.lab.kubernetes.node import node
        with node() as entered:
            print(entered.inside.init, entered.folder, flush=True)
            time.sleep(3600)
        """
    with enter_node():  # so that everything is built, or the test is skipped
        pass
    paths = os.pathsep.join(str(REPOSITORY / name) for name in (".", "hooks", "specs"))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    ) as killed:
        assert killed.stdout is not None
        init, folder = killed.stdout.readline().split()
        groups = control_groups(Path(f"/proc/{init}"))
        killed.kill()
    left = (Path(f"/proc/{init}"), Path(folder), *groups)

    def all_gone() -> bool:
        with enter_node():
            return not [path for path in left if path.exists()]

    until(all_gone, f"the next node removes {left}")


def control_groups(process: Path) -> list[Path]:
    """The lab's control groups that a process is in, as far as this machine shows them."""
    groups = []
    for line in (process / "cgroup").read_text("ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        for folder in (controllers.removeprefix("name="), "unified", "."):
            group = Path(f"/sys/fs/cgroup/{folder}{path}")
            if "cdi-gen-lab-" in path and group.is_dir():
                groups.append(group)
    return groups
