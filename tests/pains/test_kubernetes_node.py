# SPDX-License-Identifier: Apache-2.0
"""What a node of a cluster does not offer to pods, with a real kubelet."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from cdi_gen.doctor.engine_statuses import finding_of
from tests.fakehost.hosts import FakeHost
from tests.lab.kubernetes import packages
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until
from tests.pains import pain

EnterStandalone = Callable[..., AbstractContextManager[Standalone]]

PLUGIN = """
import os, sys, threading
from concurrent.futures import ThreadPoolExecutor
import grpc
from cdi_gen.kubernetes.protocols import deviceplugin_v1beta1_pb2 as api

broken, *uuids = sys.argv[1:]
directory = "/var/lib/kubelet/device-plugins"

def watch(request, context):
    yield api.ListAndWatchResponse(devices=[
        api.Device(ID=uuid, health="Unhealthy" if uuid == broken else "Healthy") for uuid in uuids
    ])
    threading.Event().wait()

def handler(function, request, response, stream=False):
    kind = grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
    return kind(function, request_deserializer=request.FromString, response_serializer=response.SerializeToString)

methods = {
    "GetDevicePluginOptions": handler(lambda *_: api.DevicePluginOptions(), api.Empty, api.DevicePluginOptions),
    "ListAndWatch": handler(watch, api.Empty, api.ListAndWatchResponse, True),
}
server = grpc.server(ThreadPoolExecutor(4))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", methods)])
path = f"{directory}/nvidia-gpu.sock"
if os.path.exists(path):
    os.unlink(path)
server.add_insecure_port(f"unix:{path}")
server.start()
with grpc.insecure_channel(f"unix:{directory}/kubelet.sock") as channel:
    register = channel.unary_unary(
        "/v1beta1.Registration/Register",
        request_serializer=api.RegisterRequest.SerializeToString,
        response_deserializer=api.Empty.FromString,
    )
    register(api.RegisterRequest(version="v1beta1", endpoint="nvidia-gpu.sock", resource_name="nvidia.com/gpu"), timeout=60)
print("registered", flush=True)
server.wait_for_termination()
"""
"""A device plugin that calls one GPU unhealthy, and never healthy again, as NVIDIA's after an Xid."""

CHECKPOINT = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"


def registered(node: Any) -> int:
    """How many devices the kubelet has written down as healthy."""
    text = node.run("cat", CHECKPOINT, check=False).stdout or "{}"
    devices = json.loads(text).get("Data", {}).get("RegisteredDevices") or {}
    return len(devices.get("nvidia.com/gpu") or ())


def codes(node: Any) -> dict[str, str]:
    """The messages of the check in the node, by code."""
    words = ("doctor", "node-devices", "--json")
    text = node.run(*packages.CDI_GEN, *words, env=packages.ENVIRONMENT, check=False).stdout
    (check,) = json.loads(text)["checks"]
    return {finding["code"]: finding_of(finding).message for finding in check["findings"]}


@pain(
    58,
    "0/1 nodes are available: 1 Insufficient nvidia.com/gpu (nvidia-smi lists all GPUs)",
    command="cdi-gen doctor node-devices",
    codes=("CDG-A260",),
    simulated=True,
)
def test_a_gpu_that_a_plugin_calls_unhealthy_for_ever(
    enter_standalone: EnterStandalone,
    with_gpus: Callable[[FakeHost], dict[str, Any]],
    host: Callable[[str], FakeHost],
) -> None:
    fake = host("550-8gpu")
    uuids = [gpu.uuid for gpu in fake.kernel.gpus]
    with enter_standalone(**with_gpus(fake)) as kubernetes:
        node = kubernetes.node
        start = ("/usr/bin/python3", "-c", PLUGIN)
        plugin = node.start("broken", *start, uuids[3], *uuids, env=packages.ENVIRONMENT)
        until(lambda: registered(node) == 7, "the kubelet has the devices")

        message = codes(node)["CDG-A260"]
        assert f"{uuids[3]} of this host is not among them" in message

        # The advice is to restart the plugin.
        plugin.stop()
        node.start("restarted", *start, "none", *uuids, env=packages.ENVIRONMENT)
        until(lambda: registered(node) == 8, "the kubelet has all devices")
        assert codes(node) == {}
