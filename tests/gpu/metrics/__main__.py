# SPDX-License-Identifier: Apache-2.0
"""Compares cdi-gen's metrics with nvidia-smi on a real GPU, while containers with known loads run.

    sudo python3 -m tests.gpu.metrics [OPTIONS]

It needs root, a GPU, nvidia-smi, PyTorch, crun or runc, the installed runtime shim, and what
`cdi-gen[metrics]` and `cdi-gen[top]` need. It changes no setting of a GPU. See docs/gpu/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.gpu.metrics import commands, cost, nvidia_smi, phases, sources
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
from tests.gpu.programs import machine
from tests.gpu.programs.container import cdi_gen
from tests.gpu.programs.forms import environment, form
from tests.gpu.several.containers import EXCHANGE, Runtime
from tests.gpu.several.gpus import Gpu, gpus_of, markdown_table

OUTPUT_LINES = 25
IN_PAGE = ("cdi-gen who", "cdi-gen top", "cdi-gen why", "messages")
"""What the transcript has of the outputs; the file beside the page has all."""
LINE_LENGTH = 200
FAULTS = 100
SUMMARY_TEXT = (
    "Series of the GPUs, under both sets of names. *Equal*: as every source of nvidia-smi says, on "
    "every GPU; *MISSING*: only nvidia-smi tells it; *only ours*: nvidia-smi does not tell it; *of "
    "no value*: NVML does not give it on this machine."
)


class Page(NamedTuple):
    """What is written: a page, and a file with all outputs beside it."""

    text: list[str]
    faults: list[str]
    transcript: list[str]
    raw: list[str]
    """All outputs, whole."""
    summary: list[tuple[str, ...]]
    """A row for each phase."""
    cost: list[str]

    def add(self, title: str, lines: Sequence[str], faults: Sequence[str]) -> None:
        """Add a chapter."""
        self.text.extend(["", f"## {title}", "", *lines])
        self.faults.extend(faults)
        print(f"{title}: {len(faults)} faults", *faults, sep="\n  ", flush=True)

    def quote(self, title: str, output: str) -> None:
        """Add the output of a command to the transcript."""
        self.raw.extend([f"### {title}", output, ""])
        if not title.startswith(IN_PAGE) or output.startswith("{"):
            return
        lines = output.replace("```", "'''").rstrip().splitlines()
        if len(lines) > OUTPUT_LINES:
            lines = [*lines[:OUTPUT_LINES], f"… {len(lines) - OUTPUT_LINES} lines more"]
        self.transcript.extend([f"### {title}", *(line[:LINE_LENGTH] for line in lines), ""])

    def write(self, path: Path, about: Sequence[str]) -> None:
        """Write the page as Markdown."""
        lines = ["# Metrics beside nvidia-smi", "", *(f"- {line}" for line in about), ""]
        lines += [*markdown_table(phases.SUMMARY_HEAD, self.summary), "", SUMMARY_TEXT, ""]
        lines += ["## Faults", ""]
        lines += [f"* **{fault}**" for fault in self.faults[:FAULTS]] or ["No faults."]
        if len(self.faults) > FAULTS:
            lines.append(f"* {len(self.faults) - FAULTS} faults more, in the file beside this one")
        lines += [
            "",
            "## Cost",
            "",
            *self.cost,
            *self.text,
            "",
            "## Transcript",
            "",
            "```",
            *self.transcript,
            "```",
            "",
        ]
        path.write_text("\n".join(lines), encoding="utf-8")
        raw = ["### faults", *self.faults, "", *self.raw]
        path.with_suffix(".raw.txt").write_text("\n".join(raw), encoding="utf-8")


def main() -> None:
    """Run everything, and write the page."""
    options = _options()
    with (
        machine.memory_in_own_mount_namespace("tests.gpu.metrics") as memory,
        tempfile.TemporaryDirectory(prefix="cdi-gen-metrics-") as disk,
    ):
        sys.exit(_all(options, memory, Path(disk)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.gpu.metrics", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--seconds", type=int, default=20, help="of each comparison  [default: %(default)s]"
    )
    parser.add_argument(
        "--idle-seconds", type=int, default=60, help="without a scrape  [default: %(default)s]"
    )
    parser.add_argument(
        "--gib", type=float, default=8, help="that a load allocates  [default: %(default)s]"
    )
    parser.add_argument("--runtime", default="crun", help="crun or runc  [default: %(default)s]")
    parser.add_argument(
        "--engine",
        choices=["podman", "runtime"],
        default="podman" if shutil.which("podman") else "runtime",
        help="what starts the containers  [default: %(default)s]",
    )
    parser.add_argument(
        "--load", type=Path, default=PROGRAM, metavar="FILE", help="another program than PyTorch's"
    )
    parser.add_argument("--output", type=Path, default=Path("metrics.md"), help="[%(default)s]")
    return parser.parse_args()


def _all(options: argparse.Namespace, memory: Path, disk: Path) -> int:
    page = Page([], [], [], [], [], [])
    about = list(_about(options))
    inventory = json.loads(cdi_gen("inventory"))
    gpus, driver = gpus_of(inventory), inventory["driver"]["version"]
    loads = _loads(options, inventory, memory)
    names = _query_names()
    fields = _all_fields(disk)
    requested = frozenset(phases.series_names()) if fields else _default_names()
    untold: list[str] = []
    with ExitStack() as stack:
        lasting = stack.enter_context(Exporter("--interval", f"{cost.INTERVAL}s"))
        exporter = stack.enter_context(
            Exporter("--interval", "2s", *(fields or ["--names", "both"]))
        )
        page.quote("cdi-gen metrics, the first scrape", exporter.scrape().text)

        def phase(title: str, running: Sequence[Load], seconds: int) -> None:
            try:
                with loads.running(running) as loaded:
                    result = phases.measure(title, loaded, exporter, seconds, names, requested)
                    page.summary.append(phases.summary(result))
                    untold[:] = phases.not_told(result.device_rows)
                    page.add(title, result.text, result.faults)
                    for command, output in result.outputs.items():
                        page.quote(f"nvidia-smi {command}, {title}", output)
                    page.quote(f"scrape, {title}", result.scrape.text)
                    for title_of_command, lines, faults in commands.check(
                        loaded, gpus, driver, result.memory
                    ):
                        page.quote(f"{title_of_command}, {title}", lines)
                        page.faults.extend(faults)
                        print(f"{title_of_command}: {len(faults)} faults", *faults, sep="\n  ")
            except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
                page.add(title, (), [f"{title}: ended early: {type(error).__name__}: {error}"])
            try:
                lasting.check()
            except OSError as error:
                page.faults.append(f"{title}: at an interval of {cost.INTERVAL} s: {error}")
            page.write(options.output, about)

        phase("No container", [], max(options.seconds // 2, 5))
        for title, running in _phases(gpus, options.gib):
            phase(title, running, options.seconds)
        lines, faults = cost.parts([cost.scrapes(exporter), cost.passes(21, 1.0)])
        page.quote("messages of cdi-gen metrics", exporter.messages())
        page.quote(f"messages at an interval of {cost.INTERVAL} s", lasting.messages())
    idle_lines, idle_faults = cost.idle(options.idle_seconds)
    page.cost.extend([*idle_lines, "", *lines])
    page.faults.extend([*faults, *idle_faults])
    print(*page.cost, *faults, *idle_faults, sep="\n", flush=True)
    page.text.extend(["", f"Fields of no value in the last phase: {', '.join(untold) or 'none'}."])
    page.write(options.output, about)
    return 1 if page.faults else 0


def _phases(gpus: Sequence[Gpu], gibibytes: float) -> Iterator[tuple[str, list[Load]]]:
    """Yield what runs: each container on a GPU of its own, if there are two; then both on one."""
    first, last = gpus[0], gpus[-1]
    busy = Load("metrics-busy", MATMUL, gibibytes / 4, first, HOOK_FREE)
    idle = Load("metrics-idle", IDLE, gibibytes, first, SHIM)
    if first == last:
        yield "One container", [busy]
    else:
        yield "Two containers, each with a GPU of its own", [busy, idle._replace(gpu=last)]
    yield "Two containers on one GPU", [busy, idle]


def _loads(options: argparse.Namespace, inventory: dict[str, object], memory: Path) -> Loads:
    program = shutil.which(options.runtime)
    if program is None:
        sys.exit(f"{options.runtime} is not in PATH")
    root = machine.of_this_machine(inventory, memory / "bare")
    containers, exchange = memory / "containers", memory / "exchange"
    containers.mkdir()
    exchange.mkdir()
    volumes = {PROGRAMS: options.load.resolve().parent, EXCHANGE: exchange}
    runtime = Runtime((program,), root, containers, environment({}, own=True), volumes)
    specs = form("tree-no-hook", memory).specs
    if specs is None:
        sys.exit("there is no spec without hooks")
    os.makedirs(SPEC_DIRECTORY, exist_ok=True)
    # In this mount namespace only: the specs that podman, why and doctor see.
    machine.mount("--bind", specs, SPEC_DIRECTORY)
    podman = shutil.which("podman") if options.engine == "podman" else None
    return Loads(runtime, specs, memory, podman, options.load)


def _query_names() -> list[str]:
    known = nvidia_smi.queryable(nvidia_smi.run("--help-query-gpu"))
    names = [name for name in sources.QUERY_NAMES if not known or name in known]
    return ["index", "uuid", *names]


def _all_fields(disk: Path) -> list[str]:
    """Return the options with which all fields are shown; none if there are no such options."""
    if "--fields" not in cdi_gen("metrics", "--help"):
        return []
    path = disk / "fields.csv"
    lines = (
        f"{name}, {presented.type}, {field.help.replace(',', ' ')}"
        for name, (field, presented) in phases.series_names().items()
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["--fields", str(path)]


def _default_names() -> frozenset[str]:
    return frozenset(
        name.name
        for field, _ in phases.series_names().values()
        for set_name, name in field.names.items()
        if set_name in field.default
    )


def _about(options: argparse.Namespace) -> Iterator[str]:
    """Yield the first lines of the page: this machine, and the versions."""
    for words in (
        ["nvidia-smi", "-L"],
        ["cat", "/proc/driver/nvidia/version"],
        ["uname", "-r"],
        [options.runtime, "--version"],
        ["podman", "--version"],
    ):
        if shutil.which(words[0]):
            process = subprocess.run(words, capture_output=True, text=True, check=False)
            lines = process.stdout.strip().splitlines()
            yield from lines if words[0] in ("nvidia-smi", "cat") else lines[:1]
    yield f"{os.cpu_count()} CPUs"
    yield f"Python {platform.python_version()}, {platform.freedesktop_os_release()['PRETTY_NAME']}"
    yield cdi_gen("--version").strip()
    yield time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


if __name__ == "__main__":
    main()
