# SPDX-License-Identifier: Apache-2.0
"""What nvidia-smi prints: parsers, which are pure, and a sampler that runs it again and again."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

ABSENT = frozenset({"", "-", "n/a", "not supported", "unknown error", "insufficient permissions"})
"""What nvidia-smi prints, perhaps in brackets, for what NVML does not tell."""
WORDS: dict[str, float] = dict.fromkeys(("no", "disabled", "default", "not active"), 0.0)
WORDS |= dict.fromkeys(("yes", "enabled", "active", "not started", "exclusive_thread"), 1.0)
WORDS |= {"in progress": 2.0, "prohibited": 2.0, "completed": 3.0, "exclusive_process": 3.0}
"""Words for numbers, as NVML has them."""
SECONDS = 20
"""A limit for a single run."""
FIRST_RATE = 20
"""Metrics of GPM with lower numbers are in percent, from it on they are in MiB/s."""

Readings = Mapping[str, list[float]]
"""The values of each source of a GPU, in the order of time."""


class ProcessSample(NamedTuple):
    """A line of ``pmon`` or of ``--query-compute-apps``."""

    gpu: str
    """The index, or the UUID."""
    pid: int
    memory: float | None = None
    """MiB."""
    sm: float | None = None
    """Percent; None: nvidia-smi prints ``-``."""


def number(text: str) -> float | None:
    """Return a value without its unit; None if NVML did not tell it."""
    word = text.strip().strip("[]").strip()
    if word.lower() in ABSENT:
        return None
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    if word.startswith("0x"):
        return float(int(word, 16))
    match = re.match(r"P?(-?\d+(?:\.\d+)?)", word)
    return float(match[1]) if match else None


def queryable(help_text: str) -> frozenset[str]:
    """Return the names that ``--help-query-gpu`` lists: one that is unknown fails a whole query."""
    return frozenset(re.findall(r'"([a-z][a-z0-9_.]+)"', help_text))


def query_rows(names: Sequence[str], output: str) -> dict[str, dict[str, float | None]]:
    """Parse ``--query-gpu=index,… --format=csv,noheader,nounits``: values by index and name."""
    rows = {}
    for row in csv.reader(io.StringIO(output), skipinitialspace=True):
        if len(row) == len(names):
            cells = dict(zip(names, row, strict=True))
            rows[cells["index"].strip()] = {name: number(cells[name]) for name in names}
    return rows


def xml_values(document: str) -> list[dict[str, float | None]]:
    """Parse ``-q -x``: for each GPU the values by path (``clocks/sm_clock``)."""
    values = []
    for gpu in ET.fromstring(document).iter("gpu"):
        leaves: dict[str, float | None] = {}
        _add_leaves(gpu, "", leaves)
        values.append(leaves)
    return values


def _add_leaves(element: ET.Element, path: str, leaves: dict[str, float | None]) -> None:
    for child in element:
        name = f"{path}{child.tag}"
        if len(child):
            _add_leaves(child, f"{name}/", leaves)
        else:
            leaves.setdefault(name, number(child.text or ""))


def monitor_rows(output: str) -> list[dict[str, str]]:
    """Parse ``dmon`` and ``pmon``: cells by the names of the line that begins with ``# gpu``.

    Names that a line has twice get a number. Units and repeated headings are skipped.
    """
    names: list[str] = []
    rows = []
    for line in output.splitlines():
        words = [word.strip() for word in (line.split(",") if "," in line else line.split())]
        if line.startswith("#"):
            words = " ".join(words).lstrip("#").split() if "," not in line else words
            words = [word.lstrip("# ").lower() for word in words]
            if words and words[0] == "gpu":
                names = _distinct(words)
        elif words and names and words[0].isdigit():
            rows.append(dict(zip(names, words, strict=False)))
    return rows


def _distinct(names: Iterable[str]) -> list[str]:
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}{seen[name]}")
    return distinct


def process_rows(rows: Iterable[Mapping[str, str]]) -> list[ProcessSample]:
    """Return the processes of ``pmon``."""
    return [
        ProcessSample(row["gpu"], int(row["pid"]), number(row.get("fb", "")), number(row["sm"]))
        for row in rows
        if row.get("pid", "-").isdigit()
    ]


def compute_apps(output: str) -> list[ProcessSample]:
    """Parse ``--query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits``."""
    rows = (line.split(",") for line in output.splitlines() if line.count(",") == 2)
    return [
        ProcessSample(uuid.strip(), int(pid), number(memory))
        for uuid, pid, memory in rows
        if pid.strip().isdigit()
    ]


def gpm_number(metric: int, text: str) -> float | None:
    """Return a metric of GPM.

    In a first line nvidia-smi has been seen to print a share of 1,599,830,000 percent.
    """
    value = number(text)
    is_share = metric < FIRST_RATE
    return None if value is not None and is_share and value > 100 else value


def run(*words: str) -> str:
    """Run nvidia-smi, and return what it printed; empty if it failed."""
    process = subprocess.run(
        ["nvidia-smi", *words], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    return process.stdout if process.returncode == 0 else ""


class Sampler:
    """Runs nvidia-smi in threads until it is stopped.

    Attributes:
        readings: by index of the GPU, the values of each source: ``query NAME``, ``xml PATH``,
            ``dmon COLUMN``, ``gpm ID``.
        processes: lines of pmon, and of the query of processes.
        failures: commands that printed nothing that can be read.
    """

    def __init__(self, names: Sequence[str], gpm_metrics: Sequence[int], seconds: int) -> None:
        self.readings: dict[str, dict[str, list[float]]] = {}
        self.monitored: list[ProcessSample] = []
        self.listed: list[ProcessSample] = []
        self.failures: list[str] = []
        self.outputs: dict[str, str] = {}
        self._names = names
        self._gpm_metrics = gpm_metrics
        self._seconds = seconds

    def sample(self) -> None:
        """Take the samples of ``seconds``; return when all commands have ended."""
        threads = [
            threading.Thread(target=target)
            for target in (self._queries, self._device_monitor, self._gpm_monitor, self._pmon)
        ]
        self._details()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._details()

    def _add(self, gpu: str, source: str, value: float | None) -> None:
        if value is not None:
            self.readings.setdefault(gpu, {}).setdefault(source, []).append(value)

    def _queries(self) -> None:
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            output = run(f"--query-gpu={','.join(self._names)}", "--format=csv,noheader,nounits")
            self.outputs["query"] = output
            for gpu, values in query_rows(self._names, output).items():
                for name, value in values.items():
                    self._add(gpu, f"query {name}", value)
            output = run(
                "--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits"
            )
            self.outputs["compute-apps"] = output
            self.listed += compute_apps(output)
            time.sleep(0.5)

    def _details(self) -> None:
        output = run("-q", "-x")
        if not output:
            self.failures.append("nvidia-smi -q -x")
            return
        self.outputs["xml"] = output
        for index, values in enumerate(xml_values(output)):
            for path, value in values.items():
                self._add(str(index), f"xml {path}", value)

    def _monitor(self, *words: str) -> list[dict[str, str]]:
        command = ["nvidia-smi", *words, "-d", "1", "-c", str(self._seconds)]
        process = subprocess.run(
            command,
            env={**os.environ, "NVSMI_SHOW_ALL_DEVICES": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=self._seconds + SECONDS,
        )
        rows = monitor_rows(process.stdout)
        self.outputs[" ".join(words)] = process.stdout + process.stderr
        if not rows:
            self.failures.append(f"{' '.join(command)}: {(process.stderr or process.stdout)[:200]}")
        return rows

    def _device_monitor(self) -> None:
        for row in self._monitor("dmon", "-s", "pucvmet"):
            for column, text in row.items():
                self._add(row["gpu"], f"dmon {column}", number(text))

    def _gpm_monitor(self) -> None:
        """Read the metrics of GPM, which are the last columns, in the order of their numbers."""
        metrics = sorted(self._gpm_metrics)
        words = ("--gpm-metrics", ",".join(map(str, metrics)), "--gpm-options", "d")
        for row in self._monitor("dmon", "-s", "p", *words):
            cells = list(row.values())[-len(metrics) :]
            for metric, text in zip(metrics, cells, strict=True):
                self._add(row["gpu"], f"gpm {metric}", gpm_number(metric, text))

    def _pmon(self) -> None:
        self.monitored += process_rows(self._monitor("pmon", "-s", "um"))
