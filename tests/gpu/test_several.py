# SPDX-License-Identifier: Apache-2.0
"""The parts of ``python3 -m tests.gpu.several`` that need no GPU."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gpu.mount_namespace import output_of
from tests.gpu.programs.container import CHECKOUT, NOT_THERE, PASSED, TIMED_OUT, Outcome
from tests.gpu.several import communication, gpus, section, visibility
from tests.gpu.several.gpus import Gpu, Listing

INSIDE = Path(gpus.__file__).with_name("inside")
ONE, TWO, THREE = (
    Gpu(index, f"GPU-{index}", f"0000:{index:02x}:00.0", 195, index + 4) for index in range(3)
)
OUTPUT = """\
nvml 0 GPU-0 00000000:00:00.0 minor 4
nvml 1 GPU-1 00000000:01:00.0 minor 5
cuda 0 GPU-1 0000:01:00.0
cuda 1 GPU-0 0000:00:00.0
node 5
node 4
created 7
other 6 refused: mknod: Operation not permitted
NCCL_NVLS_ENABLE=0
"""
HOST = Listing(
    nvml=("GPU-0", "GPU-1", "GPU-2"),
    cuda=("GPU-2", "GPU-1", "GPU-0"),
    minors=frozenset({4, 5, 6}),
    created=frozenset(),
    opened=frozenset(),
)


def test_listing_is_parsed() -> None:
    assert gpus.parse_listing(OUTPUT) == Listing(
        ("GPU-0", "GPU-1"), ("GPU-1", "GPU-0"), frozenset({4, 5}), frozenset({7}), frozenset()
    )
    assert gpus.parse_listing("other 6 OPENED\n").opened == {6}


def test_gpus_of_an_inventory_exclude_those_that_mig_divides() -> None:
    inventory = CHECKOUT / "specs/golden/flat-550-mig-mixed/inventory.json"
    (gpu,) = gpus.gpus_of(json.loads(inventory.read_text(encoding="utf-8")))
    assert gpu.index == 0
    assert gpu.device_names["PCI address"] == "pci-0000-1b-00-0"


def test_a_listing_in_the_host_s_order_has_no_fault() -> None:
    assert gpus.listing_faults([TWO, ONE], HOST, gpus.parse_listing(OUTPUT)) == ()


@pytest.mark.parametrize(
    ("given", "output", "fault"),
    [
        ([ONE], OUTPUT, "NVML lists GPU-0, GPU-1, expected GPU-0"),
        ([ONE, TWO, THREE], OUTPUT, "CUDA lists GPU-1, GPU-0, expected GPU-2, GPU-1, GPU-0"),
        ([ONE, TWO], OUTPUT.replace("cuda 0", "cuda -").replace("cuda 1", "cuda 0"), None),
        ([ONE, TWO], OUTPUT.replace("nvml 0 GPU-0", "nvml 0 GPU-1"), "NVML lists GPU-1, GPU-1"),
        ([ONE, TWO], OUTPUT + "node 6\n", "nodes [4, 5, 6], expected [4, 5]"),
        ([ONE, TWO], OUTPUT.replace("refused: mknod:", "OPENED\n"), "GPUs [6] can be opened"),
        ([ONE], "", "NVML lists nothing, expected GPU-0"),
    ],
)
def test_a_listing_that_differs_has_a_fault(
    given: list[Gpu], output: str, fault: str | None
) -> None:
    faults = gpus.listing_faults(given, HOST, gpus.parse_listing(output))
    if fault:
        assert any(text.startswith(fault) for text in faults), faults
    else:
        assert not faults


@pytest.mark.parametrize(
    ("total", "numbers"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))],
)
def test_powers_of_two_and_all_gpus_are_measured(total: int, numbers: tuple[int, ...]) -> None:
    assert gpus.gpu_counts(total) == numbers


def test_increase_for_each_gpu_more() -> None:
    assert gpus.per_gpu({1: 10.0, 2: 12.0, 4: 16.0}) == 2.0
    assert gpus.per_gpu({1: 10.0}) is None


def test_transports_and_bandwidth_are_read_from_nccl_s_log() -> None:
    log = """\
host:1:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM
host:1:9 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM
host:2:8 [1] NCCL INFO Channel 00 : 1[1] -> 0[0] via SHM/direct/direct
rank 1 of 2: the sum is right; joined in 1.0 s; 99 GB/s bus
rank 0 of 2: the sum is right; joined in 1.0 s; 301 GB/s bus
"""
    assert gpus.transports(log) == ("P2P/CUMEM", "SHM/direct/direct")
    assert gpus.bus_bandwidth(log) == "301 GB/s"
    assert gpus.bus_bandwidth("") == ""


def test_every_gpu_is_requested_by_each_of_its_names() -> None:
    assert [
        (request.words, [gpu.index for gpu in request.gpus])
        for request in visibility.requests_by_name([ONE])
    ] == [
        (("0",), [0]),
        (("GPU-0",), [0]),
        (("pci-0000-00-00-0",), [0]),
        (("all",), [0]),
    ]
    last = visibility.requests_by_name([ONE, TWO, THREE])[-1]
    assert (last.words, last.gpus) == (("2", "GPU-0"), (ONE, THREE))


def test_requests_depend_on_what_docker_supports() -> None:
    def words(*which: Gpu, cdi: bool = False, shim: bool = False) -> list[tuple[str, ...]]:
        requests = visibility.requests_of_docker(which, cdi=cdi, shim=shim)
        return [request.words for request in requests]

    assert words(ONE) == [("--gpus", "all"), ("--gpus", "1"), ("--gpus", "device=GPU-0")]
    assert ("--gpus", '"device=0,1"') in words(ONE, TWO, THREE)
    assert ("--device", "nvidia.com/gpu=all") in words(ONE, cdi=True)
    assert ("--runtime=nvidia", "--env", "NVIDIA_VISIBLE_DEVICES=1,GPU-0") in words(
        ONE, TWO, shim=True
    )


def test_the_worst_verdict_counts() -> None:
    def worst(*verdicts: str) -> str:
        return communication.worst_verdict([Outcome(verdict, 1, "") for verdict in verdicts])

    assert worst(PASSED, PASSED) == PASSED
    assert worst(PASSED, "FAILED, exit 1", TIMED_OUT) == TIMED_OUT
    assert worst(PASSED, NOT_THERE) == NOT_THERE


def test_p2p_results_are_summarised() -> None:
    output = """\
p2p 0 1 access yes, kernel read it, 389 GB/s
p2p 1 0 access no, kernel not run, 20 GB/s
p2p 1 2 access yes, kernel read it, 391 GB/s
"""
    results = gpus.p2p_results(output)
    assert results[1] == ("1 0", "access no, kernel not run", 20)
    assert gpus.p2p_summary(results) == (
        "2 ordered pairs: access yes, kernel read it; "
        "1 ordered pairs: access no, kernel not run; 20 to 391 GB/s"
    )
    assert gpus.p2p_summary(()) == "none"


def test_changed_variables_are_a_fault() -> None:
    machine = {"NCCL_NVLS_ENABLE": "0", "CUDA_HOME": "/cuda"}
    assert visibility.variable_faults(machine, "node 0\nNCCL_NVLS_ENABLE=0\n") == []
    assert visibility.variable_faults(machine, "node 0\n") == ["variables []"]
    assert visibility.variable_faults(machine, "NCCL_NVLS_ENABLE=1\n") == [
        "variables ['NCCL_NVLS_ENABLE=1']"
    ]


def test_relevant_lines_of_a_failure_include_its_reason() -> None:
    log = "start\nChannel 00 : 0[0] -> 1[1] via NET/Socket/0\nNCCL WARN No space left\n"
    assert communication.relevant_lines(log, "FAILED, exit 1").splitlines() == [
        "Channel 00 : 0[0] -> 1[1] via NET/Socket/0",
        "NCCL WARN No space left",
    ]
    assert (
        communication.relevant_lines("setrlimit: denied", "FAILED, exit 1") == "setrlimit: denied"
    )


def test_page_lists_faults_first() -> None:
    good = section.Section("Times", ("| a |",), ("### one", "ms"))
    bad = section.Section("Containers", ("text",), (), ("crun, 0: wrong",))
    text = section.page(["two GPUs"], [good])
    assert "- two GPUs\n\nNo faults.\n\n## Times\n\n| a |\n" in text
    assert text.endswith("## Transcript\n\n```\n### one\nms\n```\n")
    assert "* **Containers: crun, 0: wrong**\n" in section.page([], [good, bad])


@pytest.mark.parametrize("path", sorted(INSIDE.glob("*.py")), ids=lambda path: path.name)
def test_programs_can_be_read_by_old_pythons(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_c_program_compiles_without_warnings(tmp_path: Path) -> None:
    program = tmp_path / "gpus"
    words = [
        "cc",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-O1",
        "-o",
        str(program),
        str(INSIDE / "gpus.c"),
        "-ldl",
    ]
    subprocess.run(words, check=True)
    ran = subprocess.run([program], capture_output=True, text=True, check=False)
    if "libcuda.so.1" not in ran.stderr:
        pytest.skip("this machine has a driver")
    assert ran.returncode == 1


IN_CONTAINERS = """
import json, os, sys
from pathlib import Path
from tests.gpu.programs import machine
from tests.gpu.several import fewer
from tests.gpu.several.containers import Container, Runtime

folder = Path(sys.argv[1])
machine.mount("-t", "tmpfs", "tmpfs", folder)
inside = fewer.mount_root(folder / "fewer", {"zero"})
again = fewer.mount_root(folder / "again", ())
names = [name for name in ("zero", "null", "pts") if (inside / "dev" / name).exists()]
fewer_result = [names, (again / "dev/zero").exists(), (inside / "run/.containerenv").exists()]
try:
    (inside / "dev/new").touch()
except OSError as error:
    fewer_result.append(error.strerror)
fewer.unmount_root(folder / "again"), fewer.unmount_root(folder / "fewer")

root = machine.of_this_machine({"libraries": [], "files": []}, folder / "bare")
containers, exchange = folder / "containers", folder / "exchange"
containers.mkdir(), exchange.mkdir()
runtime = Runtime([sys.argv[2]], root, containers, {"PATH": "/usr/bin:/bin", "HOME": "/tmp/home"}, {"/exchange": exchange})
facts = 'echo $(hostname) $(readlink /proc/self/ns/ipc) $(df -k /dev/shm | tail -1 | cut -d" " -f1) $(ulimit -n); '
pair = "touch /dev/shm/NUMBER /exchange/NUMBER; until [ -e /exchange/1 -a -e /exchange/2 ]; do sleep 0.02; done; ls /dev/shm | wc -l"
alone = [Container(facts + pair.replace("NUMBER", str(n)), shm="128k", rlimits=(("nofile", 99),)) for n in (1, 2)]
shared = [container._replace(shared=frozenset({"ipc", "uts"})) for container in alone]
outcomes = [runtime.run(*alone)]
for path in exchange.iterdir():
    path.unlink()
outcomes.append(runtime.run(*shared))
outcomes.append(runtime.run(Container("sleep 60", seconds=1), Container("exit 3")))
print(json.dumps([fewer_result, os.uname().nodename, os.readlink("/proc/self/ns/ipc"), outcomes, os.listdir(containers)]))
"""


@pytest.mark.engine
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.skipif(shutil.which("runc") is None, reason="needs runc")
def test_only_shared_namespaces_are_common(tmp_path: Path) -> None:
    """Two containers at a time, with and without shared namespaces; and a root with fewer nodes."""
    fewer, name, ipc, (alone, shared, ends), left = json.loads(
        output_of(IN_CONTAINERS, tmp_path, "runc")
    )
    assert fewer == [["null", "pts"], True, True, "Read-only file system"]
    first, second = (output.split() for _, _, output in alone)
    assert first[0] != second[0]
    assert first[1] != second[1] != ipc
    assert (first[3:], second[3:]) == (["99", "1"], ["99", "1"])
    for _, _, output in shared:
        words = output.split()
        assert (words[0], words[1], words[3:]) == (name, ipc, ["99", "2"])
    assert [verdict for verdict, _, _ in ends] == [TIMED_OUT, "FAILED, exit 3"]
    assert sorted(left) == ["shm", "state"]
