# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen top`` where there is no terminal, no driver, or no GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.program import cdi_gen, failure
from tests.fakehost.hosts import FakeHost
from tests.fakehost.processes import Processes
from tests.top.busy_host import MIG_JOBS, BusyHost

GIB = 1 << 30
ONCE = ("top", "--once", "-n", "0.2")


def test_without_a_terminal_the_error_names_once() -> None:
    message = failure(cdi_gen("top"), 2)
    assert "is not a terminal" in message
    assert "CDG-O300" in message
    assert "cdi-gen top --once" in message


def test_the_tables_are_printed_once(busy: BusyHost) -> None:
    result = cdi_gen(*ONCE, "--host-root", str(busy.root), env={"COLUMNS": "140", "LANG": "C"})
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith("cdi-gen top  gpu-node-7")
    assert "\x1b" not in result.out
    assert max(map(len, lines)) <= 140
    (row,) = [line for line in lines if "vllm-chat" in line]
    assert row.split()[1:4] == ["vllm-chat", "docker", "3"]


def test_the_document_has_what_nvml_was_told(busy: BusyHost) -> None:
    pid = busy.start_on_host("7", "nvidia-smi", 2, 9)
    result = cdi_gen("top", "-o", "json", "-n", "0.2", "--host-root", str(busy.root))
    assert (result.code, result.err) == (0, "")
    document = json.loads(result.out)
    assert document["version"] == 1
    assert document["error"] is None
    assert document["driverVersion"] == busy.fake.driver_version
    gpu = document["gpus"][3]
    assert gpu["quantities"]["gpu_temp_celsius"] == 60
    assert gpu["quantities"]["sm_clock_hertz"] == 1_980_000_000
    containers = {entry["name"]: entry for entry in document["containers"]}
    vllm = containers["vllm-chat"]
    (device,) = vllm["devices"]
    assert (vllm["engine"], vllm["image"]) == ("docker", "vllm/vllm-openai:v0.9.1")
    assert (device["index"], device["memory"], device["processes"]) == ("3", 66 * GIB, 1)
    assert device["utilization"] == 0.62
    (process,) = gpu["processes"]
    assert document["containers"][process["container"]] == vllm
    pod = next(entry["pod"] for entry in document["containers"] if entry["name"] == "worker")
    assert pod == {"namespace": "media", "name": "transcode-7c9f", "container": "worker"}
    assert containers["notebook-anna"]["unit"] == "notebook-anna.service"
    (host,) = [use for use in document["host"] if use["processes"]]
    assert (host["device"], host["memory"], host["utilization"]) == ("7", 2 * GIB, 0.09)
    assert document["gpus"][7]["processes"][0]["pid"] == pid
    assert document["gpus"][7]["processes"][0]["container"] is None


def test_mig_devices_have_their_containers(own_host: Callable[[str], FakeHost]) -> None:
    busy = BusyHost(own_host("550-mig56"), MIG_JOBS)
    result = cdi_gen("top", "-o", "json", "-n", "0.2", "--host-root", str(busy.root))
    document = json.loads(result.out)
    runner = next(entry for entry in document["containers"] if entry["name"] == "ci-runner-3")
    devices = [(device["index"], device["memory"]) for device in runner["devices"]]
    assert devices == [("0:2", GIB), ("1:0", GIB)]
    assert runner["devices"][0]["utilization"] is None
    assert document["gpus"][0]["migDevices"][2]["profile"] == "1g.5gb"


def test_a_gpu_that_hangs_is_a_row_and_an_exit_code(busy: BusyHost) -> None:
    busy.values.hang("3")
    result = cdi_gen(*ONCE, "--host-root", str(busy.root))
    assert result.code == 4
    assert "3    the GPU has not answered within 2 s" in result.out
    assert "74" in result.out


def test_without_a_driver_the_containers_are_counted(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start(20, namespace=processes.namespace())
    result = cdi_gen(*ONCE, "--host-root", str(tmp_path))
    assert result.code == 3
    assert "CDG-O302" in result.err
    assert "0 of 1 containers" in result.out
    assert "no GPU" in result.out


def test_a_host_without_gpus(own_host: Callable[[str], FakeHost]) -> None:
    host = own_host("550-nogpu")
    Processes(host.root)
    result = cdi_gen(*ONCE, "--host-root", str(host.root))
    assert "no GPU" in result.out
    assert "Traceback" not in result.err
