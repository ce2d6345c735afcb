# SPDX-License-Identifier: Apache-2.0
"""Between GPUs: peer-to-peer access, NCCL's all-reduce in one container and over two, and
PyTorch's DistributedDataParallel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.gpu.programs.container import NOT_THERE, PASSED, TIMED_OUT, Outcome
from tests.gpu.several.containers import EXCHANGE, SHM, Container, Runtime
from tests.gpu.several.gpus import ALL, bus_rate, counts, markdown, transports
from tests.gpu.several.section import Host, Section, shown

NVIDIA = "nvidia"
DEBUG = (("NCCL_DEBUG", "INFO"),)
WITHOUT_P2P = ("NCCL_P2P_DISABLE", "1")
WITHOUT_CUMEM = ("NCCL_CUMEM_ENABLE", "0")
SECONDS = 20
INSIDE = "python3 /gpu/several/inside"


class Pair(NamedTuple):
    """Two containers, a rank in each."""

    own: bool
    """Each has one GPU; otherwise each has both, and uses one."""
    shared: tuple[str, ...] = ()
    """Namespaces of the machine, which both have."""
    shm: str = SHM
    variables: tuple[tuple[str, str], ...] = ()
    nvidia_too: bool = False
    """With NVIDIA's spec too: what it does is no matter of the spec."""


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
    """Each GPU reads the others' memory: outside, and in a container of each form."""
    title = "Peer-to-peer access"
    if len(host.gpus) < 2:
        return Section(title, ("There is one GPU.",))
    outside = subprocess.run(
        [str(host.programs / "gpus"), "p2p"], capture_output=True, text=True, check=False
    )
    rows = [("outside of containers", _pairs(outside.stdout + outside.stderr))]
    said = shown("p2p, outside", outside.stdout + outside.stderr, 60)
    wrong = [] if _access(outside.stdout) else ["outside of containers: no pair"]
    runtime = _runtime(host)
    for form, specs in host.specs.items():
        (outcome,) = runtime.run(Container("/several/gpus p2p", (ALL,), specs))
        rows.append((form, _pairs(outcome.output)))
        said += shown(f"p2p, {form}: {outcome.verdict}", outcome.output, 60)
        if outcome.verdict != PASSED or _access(outcome.output) != _access(outside.stdout):
            wrong.append(f"{form}: not as outside of containers: {outcome.output.strip()[-200:]}")
    for command in (("topo", "-m"), ("topo", "-p2p", "r")):
        if shutil.which("nvidia-smi"):
            done = subprocess.run(
                ["nvidia-smi", *command], capture_output=True, text=True, check=False
            )
            said += shown(f"nvidia-smi {' '.join(command)}", done.stdout, 30)
    head = ("", "reads the other's memory; copies")
    return Section(title, tuple(markdown(head, rows)), tuple(said), tuple(wrong))


def all_reduce(host: Host) -> Section:
    """NCCL in one container with 1, 2, 4 … GPUs, and over two with one GPU each."""
    runtime = _runtime(host)
    rows: list[Sequence[str]] = []
    said: list[str] = []
    wrong: list[str] = []
    for number in counts(len(host.gpus)):
        devices = tuple(str(each.index) for each in host.gpus[:number])
        for form, specs in host.specs.items():
            container = Container(
                f"{INSIDE}/all_reduce.py here", devices, specs, variables=DEBUG, seconds=SECONDS
            )
            row = f"{number} of {len(host.gpus)} GPUs, {form}"
            outcome = _tried(runtime, row, [container], rows, said)
            if outcome not in (PASSED, NOT_THERE):
                wrong.append(f"{row}: {outcome}")
    if len(host.gpus) > 1:
        for what, changes in _limits():
            container = Container(
                f"{INSIDE}/all_reduce.py here", (ALL,), host.specs[host.form], seconds=SECONDS
            )
            changed = container._replace(**changes)
            changed = changed._replace(variables=(*DEBUG, *changed.variables))
            _tried(runtime, f"all GPUs, {what}", [changed], rows, said)
    text = ["In one container, with a /dev/shm of 64 MiB where nothing else is said:", ""]
    text += markdown(("", "", "by", "bus"), rows)
    text += [
        "",
        "Over two containers, each with a hostname, a /dev/shm of 64 MiB and namespaces of",
    ]
    text += [
        "its own, but for what both have in common with the machine; its network they have:",
        "",
    ]
    rows = []
    for what, pair in _pairs_of_containers(host):
        _tried(runtime, what, pair, rows, said)
    text += markdown(("", "", "by", "bus"), rows) if rows else ["There is one GPU."]
    return Section("NCCL's all-reduce", tuple(text), tuple(said), tuple(wrong))


def ddp(host: Host) -> Section:
    """PyTorch trains on all GPUs."""
    runtime = _runtime(host)
    rows, said, wrong = [], [], []
    for form, seconds in ((host.form, host.ddp_seconds), ("no-hook", host.ddp_seconds // 8)):
        script = f"{INSIDE}/ddp.py {seconds}"
        # A data loader of its own workers would want more than 64 MiB.
        container = Container(script, (ALL,), host.specs[form], seconds=seconds + 90)
        (outcome,) = runtime.run(container)
        last = outcome.output.strip().splitlines()[-1:] or [""]
        rows.append((form, outcome.verdict, last[0]))
        said += shown(f"ddp, {form}: {outcome.verdict}", outcome.output)
        if outcome.verdict not in (PASSED, NOT_THERE):
            wrong.append(f"{form}: {outcome.verdict}")
    text = markdown(("", "", ""), rows)
    return Section("DistributedDataParallel", tuple(text), tuple(said), tuple(wrong))


def _limits() -> Iterable[tuple[str, dict[str, object]]]:
    """What engines' options change of a container."""
    yield "/dev/shm of 64 KiB", {"shm": "64k"}
    yield "/dev/shm of 1 GiB", {"shm": "1g"}
    yield "memlock 64 KiB", {"rlimits": (("memlock", 1 << 16),)}
    yield "memlock 8 MiB", {"rlimits": (("memlock", 8 << 20),)}
    yield "nofile 256", {"rlimits": (("nofile", 256),)}
    yield "the machine's ipc", {"shared": frozenset({"ipc"})}
    for size in ("64k", "4m", "64m", "1g"):
        changes: dict[str, object] = {"shm": size, "variables": (WITHOUT_P2P,)}
        yield f"{WITHOUT_P2P[0]}=1, /dev/shm of {size}", changes


def _pairs_of_containers(host: Host) -> Iterable[tuple[str, list[Container]]]:
    """Two containers, a rank in each."""
    if len(host.gpus) < 2:
        return
    for case in PAIRS:
        for form in (host.form, *((NVIDIA,) if case.nvidia_too and NVIDIA in host.specs else ())):
            yield _named(case, form), _two(host, case, form)


def _two(host: Host, case: Pair, form: str) -> list[Container]:
    return [
        Container(
            f"{INSIDE}/all_reduce.py {rank} 2 {EXCHANGE}/id",
            (str(gpu.index),) if case.own else tuple(str(each.index) for each in host.gpus[:2]),
            host.specs[form],
            shared=frozenset(case.shared),
            shm=case.shm,
            variables=(*DEBUG, *case.variables),
            seconds=SECONDS,
        )
        for rank, gpu in enumerate(host.gpus[:2])
    ]


def _tried(
    runtime: Runtime,
    row: str,
    containers: Sequence[Container],
    rows: list[Sequence[str]],
    said: list[str],
) -> str:
    """Run them; what became of them is a row, and in the transcript."""
    (runtime.volumes[EXCHANGE] / "id").unlink(missing_ok=True)
    outcomes = runtime.run(*containers)
    verdict = _worst(outcomes)
    everything = "\n".join(each.output for each in outcomes)
    print(f"{row}: {verdict} {transports(everything)} {bus_rate(everything)}", flush=True)
    rows.append(
        (row, verdict, ", ".join(transports(everything)) or "-", bus_rate(everything) or "-")
    )
    said += shown(f"all-reduce, {row}: {verdict}", _told(everything, verdict), 14)
    return verdict


def _worst(outcomes: Sequence[Outcome]) -> str:
    verdicts = [each.verdict for each in outcomes]
    for verdict in (TIMED_OUT, *verdicts):
        if verdict in verdicts and verdict != PASSED:
            return verdict
    return PASSED


def _told(output: str, verdict: str) -> str:
    """Of NCCL's log what it connected by, and of a failure its reason."""
    words = (" via ", "the sum is", "NVLS", "nvls")
    if verdict != PASSED:
        words += ("WARN", "rror", "ncclCommInitRank", "ncclAllReduce")
    lines = [line for line in output.splitlines() if any(word in line for word in words)]
    connected = [line for line in lines if " via " in line]
    others = [line for line in lines if " via " not in line]
    return "\n".join([*connected[:4], *others]) if others else output


def _pairs(output: str) -> str:
    lines = [line.split(" ", 3) for line in output.splitlines() if line.startswith("p2p ")]
    return "; ".join(f"{reader} of {owner}: {rest}" for _, reader, owner, rest in lines) or "-"


def _access(output: str) -> list[str]:
    """What was possible, without how fast."""
    return [line.rpartition(",")[0] for line in output.splitlines() if line.startswith("p2p ")]


def _named(case: Pair, form: str) -> str:
    words = [f"each {'its own GPU' if case.own else 'both GPUs'}"]
    words.append(f"{', '.join(case.shared) or 'nothing'} in common")
    if case.shm != SHM:
        words.append(f"/dev/shm of {case.shm}")
    words += [f"{name}={value}" for name, value in case.variables]
    if form == NVIDIA:
        words.append("NVIDIA's spec")
    return "; ".join(words)


def _runtime(host: Host) -> Runtime:
    return next(iter(host.runtimes.values()))


def exchange(folder: Path) -> Path:
    """A folder for containers to leave files for each other."""
    path = folder / "exchange"
    path.mkdir()
    return path
