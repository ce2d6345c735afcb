# SPDX-License-Identifier: Apache-2.0
"""Communication between GPUs: peer-to-peer access, NCCL's all-reduce in one container and between
two, and PyTorch's DistributedDataParallel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.gpu.programs.container import NOT_THERE, PASSED, TIMED_OUT, Outcome
from tests.gpu.several.containers import EXCHANGE, SHM, Container, Runtime
from tests.gpu.several.gpus import (
    ALL,
    P2pResult,
    bus_bandwidth,
    gpu_counts,
    markdown_table,
    p2p_results,
    p2p_summary,
    transports,
)
from tests.gpu.several.section import Host, Section, transcript_entry

NVIDIA = "nvidia"
DEBUG = (("NCCL_DEBUG", "INFO"),)
WITHOUT_P2P = ("NCCL_P2P_DISABLE", "1")
WITHOUT_CUMEM = ("NCCL_CUMEM_ENABLE", "0")
SECONDS = 20
INSIDE = "python3 /gpu/several/inside"
HEAD = ("", "", "transport", "bus bandwidth")

LIMITS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/dev/shm of 64 KiB", {"shm": "64k"}),
    ("/dev/shm of 1 GiB", {"shm": "1g"}),
    ("nofile 256", {"rlimits": (("nofile", 256),)}),
    ("the machine's ipc namespace", {"shared": frozenset({"ipc"})}),
    ("NCCL_P2P_DISABLE=1, /dev/shm of 64 KiB", {"shm": "64k", "variables": (WITHOUT_P2P,)}),
    ("NCCL_P2P_DISABLE=1, /dev/shm of 1 GiB", {"shm": "1g", "variables": (WITHOUT_P2P,)}),
)
"""What the options of engines change in a container."""


class Pair(NamedTuple):
    """Two containers with one rank each."""

    own: bool
    """Each container has one GPU. Otherwise both have two GPUs, and each uses one."""
    shared: tuple[str, ...] = ()
    """Namespaces of the machine that both containers use."""
    shm: str = SHM
    variables: tuple[tuple[str, str], ...] = ()
    nvidia_too: bool = False
    """Also with NVIDIA's spec, to tell faults of a spec from limits of the driver."""


PAIRS = (
    Pair(True),
    Pair(True, shm="16m"),
    Pair(True, ("uts",)),
    Pair(True, ("ipc",)),
    Pair(True, ("ipc",), "1g"),
    Pair(True, ("ipc", "uts"), nvidia_too=True),
    Pair(True, ("ipc", "uts", "pid")),
    Pair(True, ("ipc", "uts"), variables=(WITHOUT_CUMEM,)),
    Pair(True, ("ipc", "uts"), variables=(WITHOUT_P2P,)),
    Pair(True, ("ipc", "uts"), "1g", (WITHOUT_P2P,)),
    Pair(True, ("ipc", "uts", "pid"), "1g", (WITHOUT_P2P,)),
    Pair(False),
    Pair(False, ("uts",)),
    Pair(False, ("ipc",), "1g"),
    Pair(False, ("ipc", "uts"), nvidia_too=True),
    Pair(False, ("ipc", "uts"), "64k"),
    Pair(False, ("ipc", "uts", "pid")),
)


def p2p(host: Host) -> Section:
    """Let every GPU read the memory of the others: outside of containers, and with every form of spec."""
    title = "Peer-to-peer access"
    if len(host.gpus) < 2:
        return Section(title, ("There is one GPU.",))
    outside = subprocess.run(
        [str(host.programs / "gpus"), "p2p"], capture_output=True, text=True, check=False
    )
    host_results = p2p_results(outside.stdout)
    rows = [("outside of containers", p2p_summary(host_results))]
    transcript = transcript_entry("p2p, outside", outside.stdout + outside.stderr, 60)
    faults = [] if host_results else ["outside of containers: no result"]
    runtime = _runtime(host)
    for form, specs in host.specs.items():
        (outcome,) = runtime.run(Container("/several/gpus p2p", (ALL,), specs))
        results = p2p_results(outcome.output)
        rows.append((form, p2p_summary(results)))
        if outcome.verdict != PASSED or _access(results) != _access(host_results):
            faults.append(f"{form}: differs from outside: {outcome.output.strip()[-200:]}")
    for words in (("topo", "-m"), ("topo", "-p2p", "r")):
        if shutil.which("nvidia-smi"):
            topology = subprocess.run(
                ["nvidia-smi", *words], capture_output=True, text=True, check=False
            )
            matrix = topology.stdout.partition("Legend")[0]
            transcript += transcript_entry(f"nvidia-smi {' '.join(words)}", matrix, 30)
    return Section(title, tuple(markdown_table(("", ""), rows)), tuple(transcript), tuple(faults))


def all_reduce(host: Host) -> Section:
    """Run NCCL in one container with 1, 2, 4 … GPUs, and between two containers."""
    runtime = _runtime(host)
    rows: list[Sequence[str]] = []
    transcript: list[str] = []
    faults: list[str] = []
    script = f"{INSIDE}/all_reduce.py here"
    for count in gpu_counts(len(host.gpus)):
        devices = tuple(str(gpu.index) for gpu in host.gpus[:count])
        for form, specs in host.specs.items():
            container = Container(script, devices, specs, variables=DEBUG, seconds=SECONDS)
            title = f"{count} of {len(host.gpus)} GPUs, {form}"
            verdict = _run(runtime, title, [container], rows, transcript)
            if verdict not in (PASSED, NOT_THERE):
                faults.append(f"{title}: {verdict}")
    if len(host.gpus) > 1:
        for what, changes in LIMITS:
            default = Container(script, (ALL,), host.specs[host.form], seconds=SECONDS)
            container = default._replace(**changes)
            container = container._replace(variables=(*DEBUG, *container.variables))
            _run(runtime, f"all GPUs, {what}", [container], rows, transcript)
    text = [f"In one container, with a /dev/shm of {SHM} unless stated:", ""]
    text += markdown_table(HEAD, rows)
    if len(host.gpus) > 1:
        rows = []
        for case in PAIRS:
            for form in (host.form, NVIDIA) if case.nvidia_too else (host.form,):
                if form in host.specs:
                    pair = _pair(host, case, form)
                    _run(runtime, _pair_title(case, form), pair, rows, transcript)
        text += [
            "",
            "Between two containers on the machine's network. Each has its own ipc, uts and pid namespaces",
        ]
        text += [f"and a /dev/shm of {SHM} unless stated:", "", *markdown_table(HEAD, rows)]
    return Section("NCCL's all-reduce", tuple(text), tuple(transcript), tuple(faults))


def ddp(host: Host) -> Section:
    """Train with PyTorch on all GPUs."""
    runtime = _runtime(host)
    rows, transcript, faults = [], [], []
    for form, seconds in ((host.form, host.ddp_seconds), ("no-hook", host.ddp_seconds // 8)):
        script = f"{INSIDE}/ddp.py {seconds}"
        container = Container(script, (ALL,), host.specs[form], seconds=seconds + 90)
        (outcome,) = runtime.run(container)
        last_line = (outcome.output.strip().splitlines() or [""])[-1]
        rows.append((form, outcome.verdict, last_line))
        transcript += transcript_entry(f"ddp, {form}: {outcome.verdict}", outcome.output)
        if outcome.verdict not in (PASSED, NOT_THERE):
            faults.append(f"{form}: {outcome.verdict}")
    text = markdown_table(("", "", "last line"), rows)
    return Section("DistributedDataParallel", tuple(text), tuple(transcript), tuple(faults))


def worst_verdict(outcomes: Sequence[Outcome]) -> str:
    """Return the verdict of several containers that work together."""
    verdicts = [outcome.verdict for outcome in outcomes if outcome.verdict != PASSED]
    if TIMED_OUT in verdicts:
        return TIMED_OUT
    return verdicts[0] if verdicts else PASSED


def relevant_lines(log: str, verdict: str) -> str:
    """Return what NCCL used, and the reason of a failure; of an unknown log, all."""
    words = ["the sum is"]
    if verdict != PASSED:
        words += ["NCCL WARN", "unhandled", "rror"]
    results = [line for line in log.splitlines() if any(word in line for word in words)]
    channels = [line for line in log.splitlines() if " via " in line]
    variables = [line for line in log.splitlines() if "NCCL_NVLS_ENABLE set" in line]
    return "\n".join([*channels[:2], *variables[:1], *results]) if results else log


def create_exchange(folder: Path) -> Path:
    """Create the directory that is ``EXCHANGE`` in containers."""
    path = folder / "exchange"
    path.mkdir()
    return path


def _pair(host: Host, case: Pair, form: str) -> Iterator[Container]:
    for rank, gpu in enumerate(host.gpus[:2]):
        yield Container(
            f"{INSIDE}/all_reduce.py {rank} 2 {EXCHANGE}/id",
            (str(gpu.index),) if case.own else tuple(str(gpu.index) for gpu in host.gpus[:2]),
            host.specs[form],
            shared=frozenset(case.shared),
            shm=case.shm,
            variables=(*DEBUG, *case.variables),
            seconds=SECONDS,
        )


def _run(
    runtime: Runtime,
    title: str,
    containers: Sequence[Container] | Iterator[Container],
    rows: list[Sequence[str]],
    transcript: list[str],
) -> str:
    """Run the containers, add the result to the table and to the transcript, and return the verdict."""
    (runtime.volumes[EXCHANGE] / "id").unlink(missing_ok=True)
    outcomes = runtime.run(*containers)
    verdict = worst_verdict(outcomes)
    log = "\n".join(outcome.output for outcome in outcomes)
    cells = (", ".join(transports(log)) or "-", bus_bandwidth(log) or "-")
    print(f"{title}: {verdict}, {', '.join(cells)}", flush=True)
    rows.append((title, verdict, *cells))
    transcript += transcript_entry(f"all-reduce, {title}: {verdict}", relevant_lines(log, verdict))
    return verdict


def _pair_title(case: Pair, form: str) -> str:
    words = ["own GPU" if case.own else "both GPUs"]
    words.append(f"shared: {', '.join(case.shared)}" if case.shared else "nothing shared")
    if case.shm != SHM:
        words.append(f"/dev/shm of {case.shm}")
    words += [f"{name}={value}" for name, value in case.variables]
    if form == NVIDIA:
        words.append("NVIDIA's spec")
    return "; ".join(words)


def _access(results: Sequence[P2pResult]) -> list[tuple[str, str]]:
    return [(result.pair, result.result) for result in results]


def _runtime(host: Host) -> Runtime:
    return next(iter(host.runtimes.values()))
