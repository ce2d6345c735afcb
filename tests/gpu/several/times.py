# SPDX-License-Identifier: Apache-2.0
"""What ``generate`` and ``runtime prepare`` take with some of the GPUs and with all, beside
nvidia-ctk; and what of it are NVML's handles, one after the other and in parallel."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.bench.contest import ENVIRONMENT, Lap, Step, race, ratio
from tests.gpu.programs.container import CHECKOUT, LEFT_OUT
from tests.gpu.several import fewer
from tests.gpu.several.gpus import counts, markdown, per_gpu
from tests.gpu.several.section import Host, Section, shown

HANDLES = Path(__file__).with_name("handles.py")
HANDLE_ROUNDS = 15
OURS = {"cdi-gen generate": ("generate",), "cdi-gen runtime prepare": ("runtime", "prepare")}
GENERATE, NVIDIA = "cdi-gen generate", "nvidia-ctk cdi generate"
SPANS = ("initialisation", "handles", "shutdown")


def times(host: Host) -> Section:
    """Race the commands, each with 1, 2, 4 … GPUs, by turns."""
    numbers = counts(len(host.gpus))
    with _roots(host, numbers) as roots:
        found = {
            f"{name}, {number}": _gpus_of(root, argv)
            for number, root in roots.items()
            for name, argv in _spec_writers().items()
        }
        runners = {
            f"{name}, {number}": [_step(argv, root)]
            for number, root in roots.items()
            for name, argv in _commands().items()
        }
        laps = race(runners, host.rounds)
    faults = [
        f"{name}: a spec of {there} GPUs"
        for name, there in found.items()
        if there != int(name.rpartition(" ")[2])
    ]
    text = [f"Whole processes, wall ms, medians of {host.rounds} interleaved rounds:", ""]
    text += markdown(
        ("", *(_gpus(number) for number in numbers), "each GPU more"),
        (_row(name, numbers, laps) for name in _commands()),
    )
    if NVIDIA in _commands():
        text += ["", f"`{GENERATE}` by `{NVIDIA}`, median of the rounds' ratios: "]
        text[-1] += ", ".join(
            f"**{ratio(laps[f'{GENERATE}, {number}'], laps[f'{NVIDIA}, {number}']):.2f}** "
            f"({_gpus(number)})"
            for number in numbers
        )
    else:
        text += ["", "nvidia-ctk is not in PATH."]
    said = [f"{name}: {' '.join(f'{lap.wall:.1f}' for lap in each)}" for name, each in laps.items()]
    return Section("Time by GPUs", tuple(text), _transcript(said), tuple(faults))


def handles(host: Host) -> Section:
    """Time NVML's handles in processes of their own, by turns."""
    numbers = counts(len(host.gpus))
    cases = [(how, number) for number in numbers for how in ("serial", "parallel")]
    spans: dict[tuple[str, int], list[list[float]]] = {case: [] for case in cases}
    with _roots(host, numbers) as roots:
        for count in range(HANDLE_ROUNDS + 1):
            for how, number in cases:
                addresses = [each.pci_address for each in host.gpus[:number]]
                words = [sys.executable, "-I", "-S", str(HANDLES), "libnvidia-ml.so.1", how]
                printed = _within(roots[number], [*words, *addresses])
                if count:
                    spans[how, number].append(json.loads(printed))
    head = ("", *(_gpus(number) for number in numbers), "each GPU more")
    rows = []
    for how in ("serial", "parallel"):
        for place, name in enumerate(SPANS):
            medians = {
                number: median(span[place] for span in spans[how, number]) for number in numbers
            }
            cells = [f"{each:.1f}" for each in medians.values()]
            rows.append((f"{how}: {name}", *cells, _more(medians)))
    text = [f"ms, medians of {HANDLE_ROUNDS} processes each:", "", *markdown(head, rows)]
    said = [
        f"{how}, {number}: {' '.join('+'.join(f'{part:.1f}' for part in each) for each in every)}"
        for (how, number), every in spans.items()
    ]
    return Section("NVML's handles", tuple(text), _transcript(said))


@contextlib.contextmanager
def _roots(host: Host, numbers: Sequence[int]) -> Iterator[dict[int, Path]]:
    """The machine with the first so many of its GPUs."""
    folders = {number: host.folder / f"with-{number}" for number in numbers}
    try:
        yield {
            number: fewer.root(folder, {f"nvidia{each.minor}" for each in host.gpus[number:]})
            for number, folder in folders.items()
        }
    finally:
        for folder in folders.values():
            fewer.remove(folder)


def _spec_writers() -> dict[str, list[str]]:
    return {name: argv for name, argv in _commands().items() if "generate" in argv}


def _commands() -> dict[str, list[str]]:
    found = {
        name: [sys.executable, "-m", "cdi_gen", *words, *_options(words)]
        for name, words in OURS.items()
    }
    program, hook = shutil.which("nvidia-ctk"), shutil.which("nvidia-cdi-hook")
    if program and hook:
        found[NVIDIA] = [program, "--quiet", "cdi", "generate", "--format=json"]
        found[NVIDIA].append(f"--nvidia-cdi-hook-path={hook}")
    return {**found, "python3 -c 'import click'": [sys.executable, "-c", "import click"]}


def _options(words: Sequence[str]) -> Sequence[str]:
    # To disk it would be the disk's time; nvidia-ctk writes to its standard output too.
    return ("--output", "-") if words[0] == "runtime" else ()


def _environment() -> dict[str, str]:
    path = os.pathsep.join(str(CHECKOUT / name) for name in (".", "hooks", "specs"))
    inherited = os.environ.get("PYTHONPATH")
    path += os.pathsep + inherited if inherited else ""
    return {**ENVIRONMENT, "PATH": os.environ.get("PATH", ENVIRONMENT["PATH"]), "PYTHONPATH": path}


def _step(argv: Sequence[str], root: Path) -> Step:
    # cdi-gen says by its exit code that there are GPUs without a node.
    code = _ran(root, argv).returncode
    exits = {"exit": code} if code == LEFT_OUT else {}
    return {"argv": list(argv), "env": _environment(), "chroot": str(root), **exits}


def _within(root: Path, words: Sequence[str]) -> str:
    done = _ran(root, words)
    if done.returncode not in (0, LEFT_OUT):
        raise OSError(f"{' '.join(words[:6])}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _ran(root: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["chroot", str(root), *words],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def _gpus_of(root: Path, argv: Sequence[str]) -> int:
    """How many GPUs the spec has."""
    spec = json.loads(_within(root, argv))
    nodes = {
        node["path"]
        for device in spec["devices"]
        for node in device["containerEdits"].get("deviceNodes", ())
    }
    return sum(path.removeprefix("/dev/nvidia").isdigit() for path in nodes)


def _row(name: str, numbers: Sequence[int], laps: Mapping[str, Sequence[Lap]]) -> list[str]:
    medians = {number: median(lap.wall for lap in laps[f"{name}, {number}"]) for number in numbers}
    return [f"`{name}`", *(f"{each:.1f}" for each in medians.values()), _more(medians)]


def _more(medians: Mapping[int, float]) -> str:
    more = per_gpu(medians)
    return "-" if more is None else f"{more:+.1f}"


def _gpus(number: int) -> str:
    return "1 GPU" if number == 1 else f"{number} GPUs"


def _transcript(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(shown("laps, ms", "\n".join(lines), 40))
