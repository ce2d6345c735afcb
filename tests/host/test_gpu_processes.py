# SPDX-License-Identifier: Apache-2.0
"""NVML's lists of processes, asked through pynvml of a library with some of NVML's functions."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.host.looking import python

COMMON = """
#include <stddef.h>
struct info { unsigned pid; unsigned long long memory; unsigned gpu, compute; };
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "error"; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **handle)
{
    *handle = (void *)1;
    return address[0] == '0' ? 0 : 6;
}
static int fill(unsigned *count, struct info *infos)
{
    static const struct info all[] = {{77, 1 << 20, -1, -1}, {78, -1ULL, 1, 0}};
    unsigned capacity = *count;
    *count = 2;
    if (capacity < 2 || infos == NULL)
        return 7; /* NVML_ERROR_INSUFFICIENT_SIZE */
    infos[0] = all[0];
    infos[1] = all[1];
    return 0;
}
"""
LISTS = """
int nvmlDeviceGet%sRunningProcesses_%s(void *handle, unsigned *count, struct info *infos)
{
    return fill(count, infos);
}
"""
ASK = """
import json, sys
from cdi_gen.host.devices import nvml_processes
from cdi_gen.host.devices.mig_mode import NvmlUnavailable
try:
    print(json.dumps(nvml_processes.ask(sys.argv[1], ("0000:3b:00.0", "x"))))
except NvmlUnavailable as error:
    print(json.dumps(str(error)))
"""


def ask(folder: Path, source: str) -> object:
    (folder / "nvml.c").write_text(COMMON + source)
    command = ["cc", "-shared", "-fPIC", "-w", "-o", "libnvidia-ml.so.1", "nvml.c"]
    subprocess.run(command, cwd=folder, check=True)
    ended = python("-c", ASK, str(folder / "libnvidia-ml.so.1"))
    assert ended.returncode == 0, ended.stderr
    answer: object = json.loads(ended.stdout)
    return answer


@pytest.mark.parametrize("version", ["v3", "v2"])
def test_processes_and_their_memory(root_owned: Path, version: str) -> None:
    assert ask(root_owned, LISTS % ("Compute", version)) == [
        ["0000:3b:00.0", 77, 1 << 20, None, None],
        ["0000:3b:00.0", 78, None, 1, 0],
    ]


def test_process_of_compute_and_graphics_counts_once(root_owned: Path) -> None:
    source = LISTS % ("Compute", "v3") + LISTS % ("Graphics", "v3")
    answer = ask(root_owned, source)
    assert isinstance(answer, list)
    assert [entry[1] for entry in answer] == [77, 78]


def test_library_without_the_function(root_owned: Path) -> None:
    """Open files tell instead."""
    assert ask(root_owned, "") == "this version of NVML lists no processes"


@pytest.fixture
def root_owned(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path
