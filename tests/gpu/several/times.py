# SPDX-License-Identifier: Apache-2.0
"""Time of ``generate`` and ``runtime prepare`` by the number of GPUs, beside nvidia-ctk; and the time
of NVML's handles, one after the other and in parallel."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.bench.contest import ENVIRONMENT, Lap, Step, race, ratio
from tests.gpu.programs.container import CHECKOUT, LEFT_OUT
from tests.gpu.several import fewer
from tests.gpu.several.gpus import gpu_counts, markdown_table, per_gpu
from tests.gpu.several.section import Host, Section, transcript_entry

HANDLES = Path(__file__).with_name("handles.py")
HANDLE_ROUNDS = 15
NVML = "libnvidia-ml.so.1"
GENERATE, NVIDIA = "cdi-gen generate", "nvidia-ctk cdi generate"
# Both write to standard output: a file would add the time of the disk.
CDI_GEN = {
    GENERATE: ("generate",),
    "cdi-gen runtime prepare": ("runtime", "prepare", "--output", "-"),
}
STEPS = ("initialisation", "handles", "shutdown")


def times(host: Host) -> Section:
    """Race the commands with 1, 2, 4 … GPUs."""
    counts = gpu_counts(len(host.gpus))
    commands = _commands()
    with _roots(host, counts) as roots:
        faults = [
            f"{name} with {count} GPUs: the spec has {gpu_count}"
            for count, root in roots.items()
            for name in (GENERATE, NVIDIA)
            if name in commands
            and (gpu_count := _gpu_count(_output(root, commands[name]))) != count
        ]
        runners = {
            _case(name, count): [_step(argv, root)]
            for count, root in roots.items()
            for name, argv in commands.items()
        }
        laps = race(runners, host.rounds)
    text = [f"Whole processes, wall ms, medians of {host.rounds} interleaved rounds:", ""]
    text += markdown_table(_head(counts), (_row(name, counts, laps) for name in commands))
    if NVIDIA in commands:
        ratios = [
            f"**{ratio(laps[_case(GENERATE, count)], laps[_case(NVIDIA, count)]):.2f}** with {count}"
            for count in counts
        ]
        text += [
            "",
            f"`{GENERATE}` / `{NVIDIA}`, median of the rounds' ratios: {', '.join(ratios)}",
        ]
    else:
        text += ["", "nvidia-ctk is not in PATH."]
    lines = [f"{case}: {_walls(case_laps)}" for case, case_laps in laps.items()]
    transcript = transcript_entry("rounds, ms", "\n".join(lines), len(lines))
    return Section("Time by number of GPUs", tuple(text), tuple(transcript), tuple(faults))


def handles(host: Host) -> Section:
    """Time NVML's handles, in a new process each time."""
    counts = gpu_counts(len(host.gpus))
    cases = [(how, count) for count in counts for how in ("serial", "parallel")]
    spans: dict[tuple[str, int], list[list[float]]] = {case: [] for case in cases}
    with _roots(host, counts) as roots:
        for round_number in range(HANDLE_ROUNDS + 1):
            for how, count in cases:
                addresses = [gpu.pci_address for gpu in host.gpus[:count]]
                argv = [sys.executable, "-I", "-S", str(HANDLES), NVML, how, *addresses]
                output = _output(roots[count], argv)
                if round_number:  # the first round warms up
                    spans[how, count].append(json.loads(output))
    rows = []
    for how in ("serial", "parallel"):
        for number, step in enumerate(STEPS):
            medians = {
                count: median(span[number] for span in spans[how, count]) for count in counts
            }
            rows.append((f"{how}: {step}", *_cells(medians)))
    text = [f"ms, medians of {HANDLE_ROUNDS} processes:", "", *markdown_table(_head(counts), rows)]
    lines = [
        f"{how}, {count}: {' '.join('+'.join(f'{ms:.1f}' for ms in span) for span in case_spans)}"
        for (how, count), case_spans in spans.items()
    ]
    transcript = transcript_entry(f"{', '.join(STEPS)}, ms", "\n".join(lines), len(lines))
    return Section("NVML's handles", tuple(text), tuple(transcript))


@contextlib.contextmanager
def _roots(host: Host, counts: Sequence[int]) -> Iterator[dict[int, Path]]:
    """Root file systems with the first GPUs, by their number."""
    folders: list[Path] = []
    roots = {}
    try:
        for count in counts:
            folders.append(Path(tempfile.mkdtemp(prefix=f"with-{count}-", dir=host.folder)))
            hidden = {f"nvidia{gpu.minor}" for gpu in host.gpus[count:]}
            roots[count] = fewer.mount_root(folders[-1], hidden)
        yield roots
    finally:
        for folder in folders:
            fewer.unmount_root(folder)


def _commands() -> dict[str, list[str]]:
    commands = {name: [sys.executable, "-m", "cdi_gen", *words] for name, words in CDI_GEN.items()}
    program, hook = shutil.which("nvidia-ctk"), shutil.which("nvidia-cdi-hook")
    if program and hook:
        commands[NVIDIA] = [program, "--quiet", "cdi", "generate", "--format=json"]
        commands[NVIDIA].append(f"--nvidia-cdi-hook-path={hook}")
    return {**commands, "python3 -c 'import click'": [sys.executable, "-c", "import click"]}


def _environment() -> dict[str, str]:
    path = os.pathsep.join(str(CHECKOUT / name) for name in (".", "hooks", "specs"))
    inherited = os.environ.get("PYTHONPATH")
    path += os.pathsep + inherited if inherited else ""
    return {**ENVIRONMENT, "PATH": os.environ.get("PATH", ENVIRONMENT["PATH"]), "PYTHONPATH": path}


def _step(argv: Sequence[str], root: Path) -> Step:
    # cdi-gen reports GPUs without a node by its exit code.
    code = _run(root, argv).returncode
    expected_exit = {"exit": code} if code == LEFT_OUT else {}
    return {"argv": list(argv), "env": _environment(), "chroot": str(root), **expected_exit}


def _output(root: Path, argv: Sequence[str]) -> str:
    process = _run(root, argv)
    if process.returncode not in (0, LEFT_OUT):
        error = process.stderr.strip()
        raise OSError(f"{' '.join(argv[:6])}: exit {process.returncode}: {error}")
    return process.stdout


def _run(root: Path, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["chroot", str(root), *argv],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def _gpu_count(spec: str) -> int:
    """Return the number of GPU nodes in a spec."""
    nodes = {
        node["path"]
        for device in json.loads(spec)["devices"]
        for node in device["containerEdits"].get("deviceNodes", ())
    }
    return sum(path.removeprefix("/dev/nvidia").isdigit() for path in nodes)


def _case(name: str, count: int) -> str:
    return f"{name}, {count}"


def _head(counts: Sequence[int]) -> list[str]:
    return ["GPUs", *map(str, counts), "for each GPU more"]


def _row(name: str, counts: Sequence[int], laps: Mapping[str, Sequence[Lap]]) -> list[str]:
    medians = {count: median(lap.wall for lap in laps[_case(name, count)]) for count in counts}
    return [f"`{name}`", *_cells(medians)]


def _cells(medians: Mapping[int, float]) -> list[str]:
    increase = per_gpu(medians)
    last = "-" if increase is None else f"{increase:+.1f}"
    return [*(f"{value:.1f}" for value in medians.values()), last]


def _walls(laps: Sequence[Lap]) -> str:
    return " ".join(f"{lap.wall:.1f}" for lap in laps)
