# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen metrics`` as a process: its scrapes, its processor time and its memory."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.gpu.programs.container import cdi_gen_environment

START_SECONDS = 30


class Sample(NamedTuple):
    """A line of the text format."""

    name: str
    labels: Mapping[str, str]
    value: float


class Scrape(NamedTuple):
    """An answer of ``/metrics``."""

    time: float
    """Of the monotonic clock."""
    seconds: float
    text: str

    def samples(self) -> list[Sample]:
        """Parse the text with Prometheus's own parser.

        It does not get the types: from release 0.26 on it renames the samples of a counter whose
        name does not end in ``_total``, as many of dcgm-exporter's do not.
        """
        from prometheus_client.parser import text_string_to_metric_families

        samples = "".join(
            f"{line}\n" for line in self.text.splitlines() if not line.startswith("#")
        )
        return [
            Sample(sample.name, sample.labels, float(sample.value))
            for family in text_string_to_metric_families(samples)
            for sample in family.samples
        ]


class Cost(NamedTuple):
    """What a process, with its children, has used."""

    cpu: float
    """Seconds."""
    of_process: float
    """Seconds of the process without its children, which examine the host."""
    memory: int
    """KiB in RAM now."""
    peak: int
    """KiB in RAM at most, of the process alone."""
    threads: int
    descriptors: int


class Exporter:
    """A running ``cdi-gen metrics``, which ends with the ``with`` block."""

    def __init__(self, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        # On disk, not a pipe: a full pipe would stop the program.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        words = ["metrics", "--listen", f"127.0.0.1:{self._port}", *options]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cdi_gen", *words],
            # A fault in a library leaves the stacks of all threads in the messages.
            env={**cdi_gen_environment(), "PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )

    def __enter__(self) -> Exporter:  # noqa: PYI034 - typing.Self is of Python 3.11
        try:
            self.ready_after = self._wait()
        except OSError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def kill(self) -> None:
        """End the program as the kernel would."""
        self._process.kill()
        self._process.wait()

    def _wait(self) -> float:
        """Wait for the first measurement; return the seconds that it took."""
        start = time.monotonic()
        while time.monotonic() < start + START_SECONDS:
            self.check()
            try:
                if "cdi_gen_metrics_up" in self.scrape().text:
                    return time.monotonic() - start
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)
        raise OSError(f"cdi-gen metrics has not answered: {self.messages()}")

    def check(self) -> None:
        """Make sure that the program runs.

        Raises:
            OSError: it has ended.
        """
        status = self._process.poll()
        if status is not None:
            words = (self.messages(), *kernel_lines(self._process.pid, _kernel_log()))
            raise OSError(f"cdi-gen metrics has ended, {ended_by(status)}: {'; '.join(words)}")

    def messages(self) -> str:
        """Return what the program has printed."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def scrape(self) -> Scrape:
        """Scrape over a new connection."""
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            text = response.read().decode()
            if response.status != 200:
                raise OSError(f"/metrics answered {response.status}: {text[:200]}")
        finally:
            connection.close()
        end = time.monotonic()
        return Scrape(end, end - start, text)

    def cost(self) -> Cost:
        """Return what the process and its children have used so far.

        Raises:
            OSError: the process has ended, or what it uses cannot be read.
        """
        self.check()
        pids = [self._process.pid, *_descendants(self._process.pid)]
        own = _status(self._process.pid)
        if "VmHWM" not in own:
            raise OSError("cdi-gen metrics ends")
        return Cost(
            cpu=sum(sum(_cpu_seconds(pid)) for pid in pids),
            of_process=_cpu_seconds(self._process.pid)[0],
            memory=sum(_status(pid).get("VmRSS", 0) for pid in pids),
            peak=own["VmHWM"],
            threads=own["Threads"],
            descriptors=len(os.listdir(f"/proc/{self._process.pid}/fd")),
        )


def kernel_lines(pid: int, log: str) -> list[str]:
    """Return what the kernel's log says of a process: a fault in it, or that memory ran out."""
    return [line for line in log.splitlines() if re.search(rf"\b{pid}\b", line)][-3:]


def _kernel_log() -> str:
    try:
        process = subprocess.run(["dmesg"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout


def ended_by(status: int) -> str:
    """Return how a process has ended: its exit status, or the signal."""
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _descendants(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids = [int(word) for word in children.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in pids:
            yield child
            yield from _descendants(child)


def _cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the time of a process, user and system, and that of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0, 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    own, children = (sum(map(int, part)) / ticks for part in (fields[11:13], fields[13:15]))
    return own, children


def _status(pid: int) -> dict[str, int]:
    """Return the numbers of a process's status; none if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {
        words[0].rstrip(":"): int(words[1])
        for words in fields
        if words[1:2] and words[1].isdecimal()
    }
