# SPDX-License-Identifier: Apache-2.0
"""Who uses which GPU: who, metrics and top with two containers on one GPU and one on each other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence

from tests.gpu.metrics import nvidia_smi, phases
from tests.gpu.metrics.commands import usage_commands
from tests.gpu.metrics.exporter import Exporter
from tests.gpu.metrics.loads import (
    HOOK_FREE,
    IDLE,
    MATMUL,
    PROGRAM,
    PROGRAMS,
    SHIM,
    SPEC_DIRECTORY,
    Load,
    Loads,
)
from tests.gpu.metrics.sources import QUERY_NAMES
from tests.gpu.programs import machine
from tests.gpu.several.containers import EXCHANGE
from tests.gpu.several.gpus import Gpu
from tests.gpu.several.section import Host, Section, transcript_entry

TITLE = "Who uses which GPU"
SECONDS = 15
GIBIBYTES = 4


def usage(host: Host) -> Section:
    """Start the containers, and compare what the commands say with nvidia-smi."""
    name, runtime = next(iter(host.runtimes.items()))
    specs = host.specs.get("tree-no-hook") or host.specs.get("no-hook")
    if specs is None:
        return Section(TITLE, (), (), ("there is no spec without hooks",))
    program = host.load or PROGRAM
    volumes = {PROGRAMS: program.resolve().parent, EXCHANGE: runtime.volumes[EXCHANGE]}
    loads = Loads(
        runtime._replace(volumes=volumes), specs, host.folder, shutil.which("podman"), program
    )
    known = nvidia_smi.queryable(nvidia_smi.run("--help-query-gpu"))
    names = ["index", "uuid", *(query for query in QUERY_NAMES if query in known)]
    os.makedirs(SPEC_DIRECTORY, exist_ok=True)
    # In this mount namespace only: podman finds the spec there.
    machine.mount("--bind", specs, SPEC_DIRECTORY)
    transcript: list[str] = []
    faults: list[str] = []
    with (
        loads.running(list(loads_of(host.gpus))) as loaded,
        Exporter("--interval", "2s", "--names", "both") as exporter,
    ):
        result = phases.measure(TITLE, loaded, exporter, SECONDS, names, frozenset())
        faults += result.faults
        for title, output, command_faults in usage_commands(loaded, host.gpus, result.memory):
            faults += command_faults
            if not output.startswith("{"):
                transcript += transcript_entry(title, output, 60)
        for title, output in result.outputs.items():
            if title != "xml":
                transcript += transcript_entry(f"nvidia-smi {title}", output, 12)
    text = (f"With {name}: the hook-free spec, and the shim for the second container of GPU 0.", "")
    return Section(TITLE, (*text, *result.text), tuple(transcript), tuple(faults))


def loads_of(gpus: Sequence[Gpu]) -> Iterator[Load]:
    """Yield the containers: two on the first GPU, one on each other; every second one computes."""
    first, *others = gpus
    yield Load("usage-0-busy", MATMUL, GIBIBYTES, first, HOOK_FREE)
    yield Load("usage-0-idle", IDLE, GIBIBYTES, first, SHIM)
    for gpu in others:
        kind = MATMUL if gpu.index % 2 else IDLE
        yield Load(f"usage-{gpu.index}-{kind}", kind, GIBIBYTES + gpu.index, gpu, HOOK_FREE)
