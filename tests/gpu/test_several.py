# SPDX-License-Identifier: Apache-2.0
"""What ``python3 -m tests.gpu.several`` is made of, on a machine without a GPU."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.programs.container import CHECKOUT, NOT_THERE, PASSED, TIMED_OUT, Outcome
from tests.gpu.several import communication, gpus, section, visibility
from tests.gpu.several.gpus import Gpu, Seen

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
made 7
other 6 refused: mknod: Operation not permitted
NCCL_NVLS_ENABLE=0
"""
HOST = Seen(
    nvml=("GPU-0", "GPU-1", "GPU-2"),
    cuda=("GPU-2", "GPU-1", "GPU-0"),
    minors=frozenset({4, 5, 6}),
    made=frozenset(),
    opened=frozenset(),
)


def test_what_the_program_printed() -> None:
    assert gpus.seen(OUTPUT) == Seen(
        ("GPU-0", "GPU-1"), ("GPU-1", "GPU-0"), frozenset({4, 5}), frozenset({7}), frozenset()
    )
    assert gpus.seen("other 6 OPENED\n").opened == {6}


def test_the_host_s_gpus_are_the_inventory_s() -> None:
    inventory = CHECKOUT / "specs/golden/flat-550-mig-mixed/inventory.json"
    found = gpus.of_inventory(json.loads(inventory.read_text(encoding="utf-8")))
    assert [each.index for each in found] == [0]
    assert found[0].device_names["PCI address"].startswith("pci-0000-")


def test_a_container_sees_its_gpus_in_the_host_s_order() -> None:
    assert gpus.faults([TWO, ONE], HOST, gpus.seen(OUTPUT)) == ()


@pytest.mark.parametrize(
    ("given", "output", "fault"),
    [
        ([ONE], OUTPUT, "NVML lists GPU-0, GPU-1, not GPU-0"),
        ([ONE, TWO, THREE], OUTPUT, "CUDA lists GPU-1, GPU-0, not GPU-2, GPU-1, GPU-0"),
        ([ONE, TWO], OUTPUT.replace("cuda 0", "cuda -").replace("cuda 1", "cuda 0"), None),
        ([ONE, TWO], OUTPUT.replace("nvml 0 GPU-0", "nvml 0 GPU-1"), "NVML lists GPU-1, GPU-1"),
        ([ONE, TWO], OUTPUT + "node 6\n", "nodes [4, 5, 6], not [4, 5]"),
        ([ONE, TWO], OUTPUT.replace("refused: mknod:", "OPENED\n"), "could open [6]"),
        ([ONE], "", "NVML lists none, not GPU-0"),
    ],
)
def test_faults(given: list[Gpu], output: str, fault: str | None) -> None:
    found = gpus.faults(given, HOST, gpus.seen(output))
    assert any(each.startswith(fault) for each in found) if fault else not found, found


@pytest.mark.parametrize(
    ("total", "numbers"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))],
)
def test_how_many_gpus_are_tried(total: int, numbers: tuple[int, ...]) -> None:
    assert gpus.counts(total) == numbers


def test_what_one_more_gpu_takes() -> None:
    assert gpus.per_gpu({1: 10.0, 2: 12.0, 4: 16.0}) == 2.0
    assert gpus.per_gpu({1: 10.0}) is None


def test_transports_and_rate_of_nccl() -> None:
    log = """\
host:1:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM
host:1:9 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM
host:2:8 [1] NCCL INFO Channel 00 : 1[1] -> 0[0] via SHM/direct/direct
rank 1 of 2: the sum is right; joined in 1.0 s; 99 GB/s bus
rank 0 of 2: the sum is right; joined in 1.0 s; 301 GB/s bus
"""
    assert gpus.transports(log) == ("P2P/CUMEM", "SHM/direct/direct")
    assert gpus.bus_rate(log) == "301 GB/s"
    assert gpus.bus_rate("") == ""


def test_requests_by_name() -> None:
    assert [
        (each.words, [gpu.index for gpu in each.gpus]) for each in visibility.by_names([ONE])
    ] == [
        (("0",), [0]),
        (("GPU-0",), [0]),
        (("pci-0000-00-00-0",), [0]),
        (("all",), [0]),
    ]
    last = visibility.by_names([ONE, TWO, THREE])[-1]
    assert (last.words, last.gpus) == (("2", "GPU-0"), (ONE, THREE))


def test_requests_of_docker() -> None:
    def words(*which: Gpu, cdi: bool = False, shim: bool = False) -> list[tuple[str, ...]]:
        return [each.words for each in visibility.of_docker(which, cdi=cdi, shim=shim)]

    assert words(ONE) == [("--gpus", "all"), ("--gpus", "1"), ("--gpus", "device=GPU-0")]
    assert ("--gpus", '"device=0,1"') in words(ONE, TWO, THREE)
    assert ("--device", "nvidia.com/gpu=all") in words(ONE, cdi=True)
    assert ("--runtime=nvidia", "--env", "NVIDIA_VISIBLE_DEVICES=1,GPU-0") in words(
        ONE, TWO, shim=True
    )


def test_the_worst_of_several_outcomes() -> None:
    def worst(*verdicts: str) -> str:
        return communication._worst([Outcome(verdict, 1, "") for verdict in verdicts])

    assert worst(PASSED, PASSED) == PASSED
    assert worst(PASSED, "FAILED, exit 1", TIMED_OUT) == TIMED_OUT
    assert worst(PASSED, NOT_THERE) == NOT_THERE


def test_the_page() -> None:
    good = section.Section("Times", ("| a |",), ("### one", "ms"))
    bad = section.Section("Containers", ("text",), (), ("crun, 0: wrong",))
    text = section.page(["two GPUs"], [good])
    assert "- two GPUs\n\nEverything is as it should be.\n\n## Times\n\n| a |\n" in text
    assert text.endswith("## Transcript\n\n```\n### one\nms\n```\n")
    assert "* **Containers: crun, 0: wrong**\n" in section.page([], [good, bad])


@pytest.mark.parametrize("path", sorted(INSIDE.glob("*.py")), ids=lambda path: path.name)
def test_programs_can_be_read_by_old_pythons(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_c_program_compiles_without_a_warning(tmp_path: Path) -> None:
    program = tmp_path / "gpus"
    words = ["cc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", program, INSIDE / "gpus.c", "-ldl"]
    subprocess.run(words, check=True)
    ran = subprocess.run([program], capture_output=True, text=True, check=False)
    if "libcuda.so.1" not in ran.stderr:
        pytest.skip("there is a driver here")
    assert ran.returncode == 1


IN_CONTAINERS = """
import json, os, sys
from pathlib import Path
from tests.gpu.programs import machine
from tests.gpu.several import fewer
from tests.gpu.several.containers import Container, Runtime

folder = Path(sys.argv[1])
machine.mount("-t", "tmpfs", "tmpfs", folder)
inside = fewer.root(folder / "fewer", {"zero"})
again = fewer.root(folder / "again", ())
names = [each for each in ("zero", "null", "pts") if (inside / "dev" / each).exists()]
fewer_found = [names, (again / "dev/zero").exists(), (inside / "run/.containerenv").exists()]
try:
    (inside / "dev/new").touch()
except OSError as error:
    fewer_found.append(error.strerror)
fewer.remove(folder / "again"), fewer.remove(folder / "fewer")

root = machine.of_this_machine({"libraries": [], "files": []}, folder / "bare")
containers, exchange = folder / "containers", folder / "exchange"
containers.mkdir(), exchange.mkdir()
runtime = Runtime([sys.argv[2]], root, containers, {"PATH": "/usr/bin:/bin", "HOME": "/tmp/home"}, {"/exchange": exchange})
told = 'echo $(hostname) $(readlink /proc/self/ns/ipc) $(df -k /dev/shm | tail -1 | cut -d" " -f1) $(ulimit -n); '
pair = "touch /dev/shm/NUMBER /exchange/NUMBER; until [ -e /exchange/1 -a -e /exchange/2 ]; do sleep 0.02; done; ls /dev/shm | wc -l"
alone = [Container(told + pair.replace("NUMBER", str(n)), shm="128k", rlimits=(("nofile", 99),)) for n in (1, 2)]
shared = [each._replace(shared=frozenset({"ipc", "uts"})) for each in alone]
outcomes = [runtime.run(*alone)]
for each in exchange.iterdir():
    each.unlink()
outcomes.append(runtime.run(*shared))
outcomes.append(runtime.run(Container("sleep 60", seconds=1), Container("exit 3")))
print(json.dumps([fewer_found, os.uname().nodename, os.readlink("/proc/self/ns/ipc"), outcomes, os.listdir(containers)]))
"""


@pytest.mark.engine
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.skipif(shutil.which("runc") is None, reason="needs runc")
def test_containers_share_what_they_are_to_share(tmp_path: Path) -> None:
    """Two at once, alone and with the machine's namespaces; and the machine with fewer nodes."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c"]
    done = subprocess.run(
        [*command, IN_CONTAINERS, str(tmp_path), "runc"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "overlay" in done.stderr and "mount" in done.stderr:
        pytest.skip(f"no overlay of / on this machine: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    fewer, name, ipc, (alone, shared, ends), left = json.loads(done.stdout)
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
