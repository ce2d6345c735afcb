# SPDX-License-Identifier: Apache-2.0
"""The parts of ``python3 -m tests.gpu.kubernetes`` that need no GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

pytest.importorskip("grpc")

from cdi_gen.kubernetes.settings.config_file import parse_config_file
from tests.gpu.kubernetes import gpu_node, measure, mps, node_set_up, page, plugin, pods
from tests.gpu.kubernetes.pods import Volume, overlap, parse_work
from tests.gpu.programs.container import CHECKOUT
from tests.lab.kubernetes.node import Node

WORK_C = Path(pods.__file__).with_name("inside") / "work.c"
OUTPUT = """\
devices 1, first GPU-a1b91ca4, multiprocessors 66
allocation of 4096 MiB: refused (2)
begin 157.258
end 161.269
kernels 283, 70.6 a second
"""
STAT = "4242 (a (b) c) S 1 4242 4242 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 100 1 1"


def test_the_output_of_work_is_parsed() -> None:
    work = parse_work(OUTPUT)
    assert (work.begin, work.end, work.rate) == (157.258, 161.269, 70.6)
    assert (work.multiprocessors, work.granted) == (66, False)


def test_the_output_of_a_work_that_failed_has_what_came_before() -> None:
    work = parse_work("devices 1, first GPU-0, multiprocessors 132\ncuMemAlloc: CUDA error 2\n")
    assert work.multiprocessors == 132
    assert (work.begin, work.end, work.rate, work.granted) == (None, None, None, None)


def test_pods_overlap_while_both_compute() -> None:
    first = parse_work("begin 10.0\nend 14.0\n")
    assert overlap(first, parse_work("begin 12.5\nend 20.0\n")) == 1.5
    assert overlap(first, parse_work("begin 14.5\nend 20.0\n")) == 0
    assert overlap(first, parse_work("begin 12.5\n")) == 0


def test_a_pod_has_its_volumes_variables_and_user() -> None:
    volumes = (Volume("/run/pipe", "/mps/pipe", read_only=True),)
    manifest = pods.gpu_pod("one", "work", environment={"A": "b"}, volumes=volumes, user=1000)
    (container,) = manifest["spec"]["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert container["env"] == [{"name": "A", "value": "b"}]
    assert container["securityContext"] == {"runAsUser": 1000}
    (mount,) = container["volumeMounts"]
    (volume,) = manifest["spec"]["volumes"]
    assert mount == {"name": volume["name"], "mountPath": "/mps/pipe", "readOnly": True}
    assert volume["hostPath"] == {"path": "/run/pipe"}


def test_the_second_client_of_mps_may_have_another_user() -> None:
    manifests = mps.clients("two", mps.USERS)
    contexts = [pod["spec"]["containers"][0]["securityContext"] for pod in manifests]
    assert contexts == [{"runAsUser": 0}, {"runAsUser": 1000}]


def test_usage_is_read_from_a_process_whose_name_has_parentheses() -> None:
    usage = measure.parse_usage("Name:\ta (b) c\nVmRSS:\t   49152 kB\n", STAT)
    assert usage.resident_kib == 49152
    assert usage.cpu_seconds == pytest.approx(200 / os.sysconf("SC_CLK_TCK"))


def test_processor_time_is_that_of_each_thread() -> None:
    here = cast("Node", SimpleNamespace(inside=SimpleNamespace(init="self")))
    before = measure.processor_time(here, os.getpid())
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    after = measure.processor_time(here, os.getpid())
    (name,) = (name for name in after if name.endswith(f" {os.getpid()}"))
    assert after[name] - before[name] > 0.02


def test_what_a_set_up_leaves_is_found_by_content_mode_and_owner() -> None:
    before = {"/run/cdi drwxr-xr-x 0:0 ", "/etc/a -rw-r--r-- 0:0 ", "/etc/a 1234"}
    assert not node_set_up.difference(before, set(before))
    after = {*before - {"/etc/a 1234"}, "/etc/a 5678", "/opt/nvidia/toolkit/b -rw-r--r-- 0:0 "}
    lines = node_set_up.difference(before, after)
    assert lines == ["/etc/a 1234", "/etc/a 5678", "/opt/nvidia/toolkit/b -rw-r--r-- 0:0 "]
    assert node_set_up.summary(lines).splitlines() == [
        "/etc/a",
        "/opt/nvidia/toolkit",
        "2 files and directories",
    ]


def test_a_pod_that_administers_gpus_asks_by_annotation_and_for_no_resource() -> None:
    manifest = node_set_up.annotated("one", "gpu-operator")
    assert manifest["metadata"]["namespace"] == "gpu-operator"
    assert manifest["metadata"]["annotations"] == {
        "nvidia.cdi.k8s.io/container.main": "management.nvidia.com/gpu=all"
    }
    (container,) = manifest["spec"]["containers"]
    assert container["command"] == ["nvidia-smi"]
    assert "resources" not in container


def test_percentiles() -> None:
    values = [float(number) for number in range(1, 201)]
    assert measure.percentile(values, 50) == 100
    assert measure.percentile(values, 99) == 198
    assert measure.percentile([7.0], 99) == 7


def test_the_plugin_understands_the_config_file() -> None:
    config = parse_config_file(plugin.shared(2).encode(), "config")
    assert config.sharing.strategy == "time-slicing"
    assert [shared.replicas for shared in config.sharing.resources] == [2]
    assert not config.findings


def test_programs_of_a_folder_have_their_paths_in_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busybox = tmp_path / "usr/bin/busybox"
    busybox.parent.mkdir(parents=True)
    busybox.write_text("", encoding="utf-8")
    monkeypatch.setattr("shutil.which", lambda _: "/usr/sbin/ip")
    assert gpu_node.program_files(tmp_path) == {"/usr/bin/busybox": busybox}
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert gpu_node.program_files(tmp_path)["/usr/sbin/ip"] == busybox


def test_a_part_fails_if_something_is_not_as_it_should_be() -> None:
    page.require(True, "true")
    with pytest.raises(RuntimeError, match="not so: two pods"):
        page.require(False, "two pods compute")


def test_an_unknown_part_is_refused() -> None:
    command = [sys.executable, "-m", "tests.gpu.kubernetes", "--only", "registered,mpz"]
    process = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert "no such part: mpz" in process.stderr


def test_work_compiles_without_warnings(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    options = ("-Wall", "-Wextra", "-Werror", "-O1", "-o", tmp_path / "work")
    subprocess.run(["cc", *options, WORK_C, "-ldl"], check=True)
    assert [path for path in gpu_node.linked(tmp_path / "work") if "libc.so" in path]
