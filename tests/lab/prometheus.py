# SPDX-License-Identifier: Apache-2.0
"""Prometheus of Debian, in the cache and not installed: promtool, and a server that a test starts.

    with prometheus.running(configuration, tmp_path) as server:
        server.wait_for('up{job="cdi-gen"} == 1')
        (sample,) = server.query("DCGM_FI_DEV_GPU_TEMP")

The server runs on this machine, or in the network of a lab (``in_lab``), where its target is.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode

import urllib3
import yaml

from tests.lab import debian
from tests.lab.cache import cached
from tests.lab.engines import Inside
from tests.lab.kubernetes.network import Network
from tests.lab.kubernetes.waiting import SECONDS, until

_PACKAGES = ("prometheus", "prometheus-node-exporter")
PACKAGES = {
    "bookworm": _PACKAGES,  # 2.42
    "trixie": (*_PACKAGES, "promtool"),  # 2.53
    "sid": (*_PACKAGES, "promtool"),  # 3.5 and later
}

NEWEST = "sid"

IN_LAB = "/opt/prometheus"
"""Where a lab sees ``folder()``, by ``binds``."""


_LOOPBACK = """
import fcntl, socket, struct
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up, running
"""
"""Not every root has a program for it."""


_NUMBERS = itertools.count()


class Sample(NamedTuple):
    """An element of an instant vector."""

    labels: Mapping[str, str]
    value: float


class Get(Protocol):
    """Returns the body of the answer to a GET of a path with a query."""

    def __call__(self, path: str, /) -> str: ...


def folder(suite: str = NEWEST) -> Path:
    """The folder with the programs of a suite: ``prometheus``, ``promtool`` and node_exporter.

    Raises:
        LabUnavailableError: apt is missing, or the package cannot be had.
    """

    def build(into: Path) -> None:
        packages = into / "packages"
        packages.mkdir()
        for package in debian.unpack(PACKAGES[suite], packages, suite=suite).values():
            for program in (package / "usr/bin").iterdir():
                program.rename(into / program.name)
        shutil.rmtree(packages)

    return cached(f"prometheus-{suite}", repr(PACKAGES[suite]), build)


def promtool(
    *words: str, suite: str = NEWEST, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run promtool; its answer is for the caller to judge."""
    command = [str(folder(suite) / "promtool"), *words]
    return subprocess.run(
        command, check=False, capture_output=True, encoding="utf-8", input=stdin.decode()
    )


def binds(suite: str = NEWEST) -> dict[str, Path]:
    """Return what a lab must see for ``in_lab``."""
    return {IN_LAB: folder(suite)}


class Server:
    """A running Prometheus."""

    def __init__(self, get: Get) -> None:
        self._get = get

    def query(self, expression: str) -> list[Sample]:
        """Evaluate an expression now.

        Raises:
            OSError: Prometheus does not answer, or rejects the expression.
        """
        data = self._ask("/api/v1/query", query=expression)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(result["metric"], float(result["value"][1])) for result in data["result"]]

    def wait_for(self, expression: str, *, seconds: float = SECONDS) -> list[Sample]:
        """Wait until an expression has a result; returns it."""
        return until(lambda: self.query(expression), f"{expression} has a result", seconds=seconds)

    def wait_for_none(self, expression: str, *, seconds: float = SECONDS) -> None:
        """Wait until an expression has no result."""
        until(lambda: not self.query(expression), f"{expression} has no result", seconds=seconds)

    def wait_for_scrapes(self, number: int = 2, *, job: str = "cdi-gen") -> None:
        """Wait for new scrapes that succeed; the first may have begun already."""
        succeeded = f'timestamp(up{{job="{job}"}} == 1)'
        for _ in range(number):
            last = max((sample.value for sample in self.query(succeeded)), default=0.0)
            self.wait_for(f"{succeeded} > {last!r}")

    def metadata(self) -> dict[str, dict[str, str]]:
        """Return the type, unit and help of each metric, by its name, as they were scraped."""
        data = self._ask("/api/v1/metadata")
        return {name: dict(entries[0]) for name, entries in data.items()}

    def targets(self) -> list[dict[str, Any]]:
        """Return the targets that are scraped, with their health and last error."""
        return list(self._ask("/api/v1/targets")["activeTargets"])

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing."""
        return list(self._ask("/api/v1/alerts")["alerts"])

    def wait_for_alert(self, name: str, *, seconds: float = SECONDS) -> list[dict[str, Any]]:
        """Wait until an alert fires; returns it, once for each set of labels."""

        def firing() -> list[dict[str, Any]]:
            return [
                alert
                for alert in self.alerts()
                if alert["labels"]["alertname"] == name and alert["state"] == "firing"
            ]

        return until(firing, f"{name} fires", seconds=seconds)

    def _ask(self, path: str, **parameters: str) -> Any:
        return json.loads(self._get(f"{path}?{urlencode(parameters)}"))["data"]


@contextlib.contextmanager
def running(
    configuration: Mapping[str, Any], scratch: Path, *, suite: str = NEWEST
) -> Iterator[Server]:
    """Run Prometheus on this machine."""
    path = scratch / "prometheus.yml"
    path.write_text(yaml.safe_dump(dict(configuration)), "utf-8")
    log = scratch / "prometheus.log"
    command = _command(folder(suite) / "prometheus", path, scratch / "data")
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)

    def check() -> None:
        assert process.poll() is None, log.read_text()

    pool = urllib3.PoolManager(retries=False)
    try:
        port = until(lambda: _port(log.read_text(), check), "Prometheus listens")

        def get(path: str) -> str:
            try:
                answer = pool.request("GET", f"http://127.0.0.1:{port}{path}")
            except urllib3.exceptions.HTTPError as error:
                raise OSError(str(error)) from error
            return _text(path, answer.status, answer.data.decode())

        yield _ready(Server(get))
    finally:
        pool.clear()
        process.kill()
        process.wait()


@contextlib.contextmanager
def node_exporter(textfiles: Path, *, suite: str = NEWEST) -> Iterator[int]:
    """Run node_exporter with the textfile collector alone; gives its port."""
    options = ("--collector.disable-defaults", "--collector.textfile")
    command = [
        str(folder(suite) / "prometheus-node-exporter"),
        *(*options, f"--collector.textfile.directory={textfiles}"),
        "--web.listen-address=127.0.0.1:0",
    ]
    log = textfiles.parent / "node-exporter.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)

    def check() -> None:
        assert process.poll() is None, log.read_text()

    try:
        yield until(lambda: _port(log.read_text(), check), "node_exporter listens")
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def in_lab(inside: Inside, configuration: Mapping[str, Any]) -> Iterator[Server]:
    """Run Prometheus in a lab that was entered with ``binds``; it ends with the lab, if not before."""
    directory = f"/run/prometheus-{next(_NUMBERS)}"
    path, log = f"{directory}/prometheus.yml", f"{directory}/log"
    inside.write(path, yaml.safe_dump(dict(configuration)))
    bring_up_loopback(inside)
    command = _command(Path(f"{IN_LAB}/prometheus"), Path(path), Path(f"{directory}/data"))
    started = inside.start(command, log=log)
    network = Network(inside.init)

    def check() -> None:
        assert started.returncode() is None, inside.read(log)

    try:
        port = until(lambda: _port(inside.read(log), check), "Prometheus listens")

        def get(path: str) -> str:
            answer = network.request("GET", f"http://127.0.0.1:{port}{path}")
            return _text(path, answer.status, answer.text)

        yield _ready(Server(get))
    finally:
        network.close()
        started.signal(9)
        until(lambda: started.returncode() is not None, "Prometheus ends")


def bring_up_loopback(inside: Inside) -> None:
    """Let programs of a lab reach each other at 127.0.0.1."""
    inside.run(["python3", "-c", _LOOPBACK])


def _command(program: Path, configuration: Path, data: Path) -> list[str]:
    return [
        str(program),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        "--web.listen-address=127.0.0.1:0",
    ]


def _port(log: str, check: Callable[[], None]) -> int | None:
    check()
    # level=info component=web msg="Listening on" address=127.0.0.1:9090
    listening = re.search(r'"Listening on".* address=127\.0\.0\.1:(\d+)', log)
    return int(listening[1]) if listening else None


def _text(path: str, status: int, text: str) -> str:
    if status != 200:
        raise OSError(f"{path}: {status} {text.strip()}")
    return text


def _ready(server: Server) -> Server:
    until(server.targets, "Prometheus knows its targets")
    return server
