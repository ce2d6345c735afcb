# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes `cdi-gen metrics` on a node whose pods got GPUs from the device plugin."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_values import NvmlValues, set_typical
from tests.lab import prometheus
from tests.lab.kubernetes import configuration as lab_configuration
from tests.lab.kubernetes import packages
from tests.lab.kubernetes.container_engines import CRIO
from tests.lab.kubernetes.manifests import Manifest, pod
from tests.lab.kubernetes.node import BUSYBOX, Node
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until
from tests.lab.prometheus import Server
from tests.metrics import dashboard
from tests.metrics.scraping import configuration, expect, own_labels, values

EnterStandalone = Callable[..., AbstractContextManager[Standalone]]
WithGpus = Callable[[FakeHost], dict[str, Any]]
Hosts = Callable[[str], FakeHost]

MIB = 1 << 20
ADDRESS = "127.0.0.1:9400"
SLEEP = ("/bin/sleep", "100000")
FAMILY = "cdi_gen_container_gpu_"
POD = ("namespace", "pod", "container")
SHARED = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}\n"


class Scraped:
    """A node with the device plugin, `cdi-gen metrics` and Prometheus."""

    def __init__(self, kubernetes: Standalone, values: NvmlValues, server: Server) -> None:
        self.kubernetes = kubernetes
        self.values = values
        self.server = server

    @property
    def node(self) -> Node:
        return self.kubernetes.node

    def start(self, manifest: Manifest) -> dict[str, int]:
        """Run a pod; return the first process of each of its containers."""
        name = manifest["metadata"]["name"]
        self.kubernetes.apply(manifest)
        self.kubernetes.wait(name, "Running")
        containers = [container["name"] for container in manifest["spec"]["containers"]]
        return {container: self._pid(name, container) for container in containers}

    def _pid(self, name: str, container: str) -> int:
        labels = {
            "io.kubernetes.pod.name": f"{name}-{lab_configuration.NODE}",
            "io.kubernetes.container.name": container,
        }
        options = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]

        def pid() -> int | None:
            found = self._crictl("ps", "--quiet", "--state", "running", *options).split()
            if not found:
                return None
            return int(json.loads(self._crictl("inspect", found[0]))["info"]["pid"])

        return until(pid, f"{container} of {name} runs")

    def _crictl(self, *words: str) -> str:
        endpoint = f"unix://{self.node.engine.socket}"
        return self.node.run("crictl", "--runtime-endpoint", endpoint, *words).stdout


@contextmanager
def scraped(
    enter: EnterStandalone,
    furniture: dict[str, Any],
    told: NvmlValues,
    *plugin_options: str,
    engine: str = "2.2",
    config: str = "version: v1\n",
) -> Iterator[Scraped]:
    """Enter a node and start all; ``told`` are NVML's first answers."""
    furniture["binds"] |= {"/run/nvml-mock": told.path.parent, **prometheus.binds()}
    environment = {
        **packages.ENVIRONMENT,
        "NVML_MOCK_VALUES": f"/run/nvml-mock/{told.path.name}",
    }
    with enter(engine=engine, **furniture) as kubernetes:
        node = kubernetes.node
        node.inside.write("/etc/plugin.yaml", config)
        words = ("kubernetes", "device-plugin", "--config-file", "/etc/plugin.yaml")
        plugin = node.start("plugin", *packages.CDI_GEN, *words, *plugin_options, env=environment)
        until(lambda: "CDG-N110" in plugin.text(), "the plugin registers")
        options = ("--listen", ADDRESS, "--interval", "1s")
        node.start("metrics", *packages.CDI_GEN, "metrics", *options, env=environment)
        repository = Path("/opt/cdi-gen")
        with prometheus.in_lab(
            node.inside, configuration(ADDRESS, repository=repository)
        ) as server:
            server.wait_for("cdi_gen_metrics_up == 1")
            yield Scraped(kubernetes, told, server)


def typical(scratch: Path, gpus: int) -> NvmlValues:
    """Have GPUs answer all questions; what a GPU does not support at first is not asked again."""
    shown = scratch / "nvml"
    shown.mkdir()
    told = NvmlValues(shown / "libnvidia-ml.so")
    for number in range(gpus):
        set_typical(told, str(number), number)
    return told


def two_containers(name: str, resource: str) -> Manifest:
    """A pod with two containers, each with a device."""
    manifest = pod(name, *SLEEP, limits={resource: 1})
    second = manifest["spec"]["containers"][0] | {"name": "second", "image": BUSYBOX}
    manifest["spec"]["containers"].append(second)
    return manifest


@pytest.mark.parametrize("engine", ["2.2", CRIO])
def test_pods_with_gpus_of_their_own(
    engine: str,
    enter_standalone: EnterStandalone,
    with_gpus: WithGpus,
    own_host: Hosts,
    prometheus_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    prometheus_of(prometheus.NEWEST)
    furniture = with_gpus(own_host("550-server"))
    told = typical(tmp_path, 4)
    with scraped(enter_standalone, furniture, told, engine=engine) as cluster:
        server = cluster.server
        first = cluster.start(two_containers("train", "nvidia.com/gpu"))
        cluster.start(pod("idle", *SLEEP, limits={"nvidia.com/gpu": 1}))
        server.wait_for(f"count({FAMILY}held) == 3")
        train, idle = (f"{name}-{lab_configuration.NODE}" for name in ("train", "idle"))
        holders = [
            ("default", train, "main"), ("default", train, "second"), ("default", idle, "main"),
        ]  # fmt: skip
        gpus = {
            tuple(sample.labels[name] for name in POD): sample.labels["gpu"]
            for sample in server.query(f"{FAMILY}held")
        }
        assert sorted(gpus) == sorted(holders)
        assert len(set(gpus.values())) == 3
        name = "containerd" if engine != CRIO else "cri-o"
        for sample in server.query(f"{FAMILY}held"):
            labels = own_labels(sample)
            assert (labels["engine"], labels["name"]) == (name, labels["container"])
            assert len(labels["container_id"]) == 64
        # As dcgm-exporter: the same three labels on the series of the device.
        unused = ({"0", "1", "2", "3"} - set(gpus.values())).pop()
        temperatures = {(*holder, gpu): 61 + int(gpu) for holder, gpu in gpus.items()}
        temperatures["", "", "", unused] = 61 + int(unused)
        expect(server, "DCGM_FI_DEV_GPU_TEMP", [*POD, "gpu"], temperatures)
        for number, (container, pid) in enumerate(first.items(), 1):
            gpu = gpus["default", train, container]
            cluster.values.run(gpu, pid, memory=number * 1000 * MIB, sm=10 * number)
        server.wait_for(f"{FAMILY}memory_used_bytes == {2000 * MIB}")
        memory = {holders[0]: 1000 * MIB, holders[1]: 2000 * MIB, holders[2]: 0}
        expect(server, f"{FAMILY}memory_used_bytes", [*POD], memory)
        shares = {holders[0]: 0.1, holders[1]: 0.2, holders[2]: 0}
        expect(server, f"{FAMILY}utilization_ratio", [*POD], pytest.approx(shares))
        for query in dashboard.queries():
            if query.panel == "Devices for pods":
                server.wait_for(query.expression)
        cluster.kubernetes.delete("train")
        server.wait_for(f"count({FAMILY}held) == 1")
        server.wait_for('count(DCGM_FI_DEV_GPU_TEMP{pod=""}) == 3')


def test_pods_that_share_a_gpu_by_time_slicing(
    enter_standalone: EnterStandalone,
    with_gpus: WithGpus,
    own_host: Hosts,
    prometheus_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """Each has its own series; the device has no pod, so that a sum over it counts it once."""
    prometheus_of(prometheus.NEWEST)
    furniture = with_gpus(own_host("550-1gpu"))
    told = typical(tmp_path, 1)
    with scraped(enter_standalone, furniture, told, config=SHARED) as cluster:
        for number, name in enumerate(("a", "b"), 1):
            (pid,) = cluster.start(pod(name, *SLEEP, limits={"nvidia.com/gpu": 1})).values()
            cluster.values.run("0", pid, memory=number * 1000 * MIB, sm=30 * number)
        server = cluster.server
        server.wait_for(f"count({FAMILY}memory_used_bytes > 0) == 2")
        pods = [f"{name}-{lab_configuration.NODE}" for name in ("a", "b")]
        memory = {
            (pod_name, "0"): (number + 1) * 1000 * MIB for number, pod_name in enumerate(pods)
        }
        expect(server, f"{FAMILY}memory_used_bytes", ["pod", "gpu"], memory)
        shares = {(pod_name, "0"): 0.3 * (number + 1) for number, pod_name in enumerate(pods)}
        expect(server, f"{FAMILY}utilization_ratio", ["pod", "gpu"], pytest.approx(shares))
        expect(server, "DCGM_FI_DEV_GPU_UTIL", [*POD], {("", "", ""): 87})


def test_pods_with_mig_devices(
    enter_standalone: EnterStandalone,
    with_gpus: WithGpus,
    own_host: Hosts,
    prometheus_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    prometheus_of(prometheus.NEWEST)
    fake = own_host("550-mig56")
    furniture = with_gpus(fake)
    mig = fake.kernel.gpus[0].mig[0]
    resource = f"nvidia.com/mig-{mig.profile}"
    options = ("--mig-strategy", "mixed")
    told = typical(tmp_path, 8)
    for number in range(8 * 7):
        told.set(f"{number // 7}:{number % 7}", memory_used=(number % 7 + 1) * 100 * MIB)
    with scraped(enter_standalone, furniture, told, *options) as cluster:
        pids = cluster.start(two_containers("infer", resource))
        server = cluster.server
        server.wait_for(f"count({FAMILY}held) == 2")
        identity = ("container", "gpu", "GPU_I_PROFILE", "GPU_I_ID")
        held = values(server, f"{FAMILY}held", *identity)
        assert {(key[0], key[2]) for key in held} == {
            ("main", mig.profile),
            ("second", mig.profile),
        }
        # The memory of a MIG device by its own handle, with the labels of the pod.
        of_device = values(server, 'DCGM_FI_DEV_FB_USED{pod!=""}', *identity)
        assert of_device.keys() == held.keys()
        for container, gpu, _, instance in held:
            instances = [str(device.gi) for device in fake.kernel.gpus[int(gpu)].mig]
            index = instances.index(instance)
            assert of_device[container, gpu, mig.profile, instance] == (index + 1) * 100
            cluster.values.run(f"{gpu}:{index}", pids[container], memory=42 * MIB)
        server.wait_for(f"count({FAMILY}memory_used_bytes == {42 * MIB}) == 2")
        assert values(server, f"{FAMILY}memory_used_bytes", *identity).keys() == held.keys()
        # NVML does not tell which process keeps a MIG device busy: no series, and not 0.
        assert not server.query(f"{FAMILY}utilization_ratio")
