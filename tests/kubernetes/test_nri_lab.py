# SPDX-License-Identifier: Apache-2.0
"""The NRI plugin with real containerd and a real kubelet: pods get devices by an annotation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.lab.kubernetes import packages
from tests.lab.kubernetes.manifests import Manifest, pod
from tests.lab.kubernetes.process import Process
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until

OPTIONS = ("--nri-namespace=default", "--workload-namespaces=default")


@pytest.fixture(scope="module")
def standalone(
    enter_standalone: Callable[..., AbstractContextManager[Standalone]],
) -> Iterator[Standalone]:
    with enter_standalone(binds=packages.binds()) as kubernetes:
        for kind in ("management.nvidia.com/gpu", "nvidia.com/gpu"):
            write_spec(kubernetes, kind)
        yield kubernetes


def write_spec(kubernetes: Standalone, kind: str) -> None:
    """Write a spec with one device, which sets a variable and makes a device node."""
    name = kind.partition("/")[0].replace(".", "-")
    edits = {
        "env": [f"DEVICE_OF={kind}"],
        "deviceNodes": [{"path": f"/dev/{name}", "hostPath": "/dev/null"}],
    }
    spec = {
        "cdiVersion": "0.5.0",
        "kind": kind,
        "devices": [{"name": "all", "containerEdits": edits}],
    }
    (kubernetes.node.run_cdi / f"{name}.json").write_text(json.dumps(spec))


@contextlib.contextmanager
def plugin(kubernetes: Standalone, name: str, *options: str) -> Iterator[Process]:
    """Start the plugin, wait until it is registered, and stop it.

    The engine creates no container for which two plugins add the same device.
    """
    words = (*packages.CDI_GEN, "kubernetes", "nri", *options)
    process = kubernetes.node.start(name, *words, env=packages.ENVIRONMENT)
    try:
        until(lambda: "is registered" in process.text(), "the plugin is registered")
        yield process
    finally:
        assert process.stop() == 0


def looks(name: str, device: str, key: str = "container.main", **fields: Any) -> Manifest:
    """Return a pod that prints the device nodes and the variable of the spec."""
    annotations = {f"nvidia.cdi.k8s.io/{key}": device}
    script = "ls /dev | grep nvidia; echo device of $DEVICE_OF"
    return pod(name, "/bin/sh", "-c", script, annotations=annotations, **fields)


def test_a_pod_gets_the_devices_of_its_annotation(standalone: Standalone) -> None:
    with plugin(standalone, "nri-1", *OPTIONS) as process:
        standalone.apply(looks("management", "management.nvidia.com/gpu=all"))
        standalone.apply(looks("all-containers", "nvidia.com/gpu=all", key="pod"))
        standalone.apply(looks("other-container", "nvidia.com/gpu=all", key="container.other"))
        for name, output in {
            "management": "management-nvidia-com\ndevice of management.nvidia.com/gpu\n",
            "all-containers": "nvidia-com\ndevice of nvidia.com/gpu\n",
            "other-container": "device of\n",
        }.items():
            standalone.wait(name, "Succeeded")
            assert standalone.log(name) == output
        assert "index 10: containerd 2.2" in process.text()


def test_a_pod_that_may_not_have_its_devices_does_not_start(standalone: Standalone) -> None:
    with plugin(standalone, "nri-2", "--workload-namespaces=default") as process:
        standalone.apply(looks("refused", "management.nvidia.com/gpu=all"))

        def reason() -> str:
            statuses = standalone.pod("refused").get("status", {}).get("containerStatuses", [{}])
            waiting = statuses[0].get("state", {}).get("waiting", {})
            return str(waiting.get("message", ""))

        until(lambda: "administer all GPUs of the node" in reason(), "kubelet says why", seconds=60)
        assert "[CDG-N601]" in process.text()
        standalone.delete("refused")


def test_the_plugin_serves_an_engine_that_has_started_again(standalone: Standalone) -> None:
    with plugin(standalone, "nri-3", *OPTIONS) as process:
        standalone.node.processes["containerd"].restart()
        standalone.node.wait_for_engine()
        until(lambda: process.text().count("is registered") == 2, "it is registered again")
        standalone.apply(looks("later", "nvidia.com/gpu=all"))
        standalone.wait("later", "Succeeded", seconds=60)
        assert "nvidia-com\n" in standalone.log("later")


def test_containerd_1_is_refused_instead_of_a_pod_without_devices(
    enter_standalone: Callable[..., AbstractContextManager[Standalone]],
) -> None:
    """Its NRI ignores the CDI devices of a plugin."""
    with enter_standalone(engine="1.7", binds=packages.binds()) as kubernetes:
        write_spec(kubernetes, "nvidia.com/gpu")
        with plugin(kubernetes, "nri", *OPTIONS) as process:
            kubernetes.apply(looks("main", "nvidia.com/gpu=all"))
            kubernetes.apply(pod("without", "/bin/true"))
            until(lambda: "[CDG-N608]" in process.text(), "the reason is said", seconds=60)
            kubernetes.wait("without", "Succeeded", seconds=60)
            assert "containerd 1.7" in process.text()
            assert kubernetes.pod("main")["status"]["phase"] == "Pending"
