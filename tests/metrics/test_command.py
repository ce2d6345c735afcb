# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen metrics`` as a program, on a host without a driver."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.program import CHECKOUT, ENVIRONMENT, PROGRAM, cdi_gen, failure
from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_values import NvmlValues
from tests.kubernetes.kubelet import wait_until
from tests.metrics.serving import PATIENCE, get, request

UP = b"cdi_gen_metrics_up 0\n"


@pytest.fixture
def bare_root(tmp_path: Path) -> Path:
    """The root of a host without a driver and without containers."""
    root = tmp_path / "host"
    (root / "proc").mkdir(parents=True)
    return root


class Program:
    """``cdi-gen metrics`` while it runs."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def port(self) -> int:
        """The port that it has chosen."""
        return int(re.findall(r"127\.0\.0\.1:(\d+)", self.log)[0])

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def metrics(
    bare_root: Path, *options: str, log: Path | None = None, **environment: str
) -> Iterator[Program]:
    """The program, when it serves or writes."""
    log = log or bare_root.parent / "log"
    command = [*PROGRAM, "metrics", "--host-root", str(bare_root), *options]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=ENVIRONMENT | environment,
            stderr=stream,
            text=True,
            umask=0o077,
        )
    program = Program(process, log)
    try:
        wait_until(lambda: "CDG-O160" in program.log or process.poll() is not None)
        assert process.poll() is None, program.log
        yield program
    finally:
        process.kill()
        process.wait()


def test_once_prints_the_text(bare_root: Path) -> None:
    result = cdi_gen("metrics", "--once", "--host-root", str(bare_root))
    assert result.code == 0
    assert UP.decode() in result.out


def test_metrics_are_served_until_sigterm(bare_root: Path) -> None:
    with metrics(bare_root, "--listen", "127.0.0.1:0") as program:
        wait_until(lambda: get(program.port(), "/healthz").status == 200)
        assert UP in get(program.port()).body
        assert b"metrics" in get(program.port(), "/").body
        assert program.end() == 0
        assert "Traceback" not in program.log


def test_options_come_from_the_environment(bare_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    addresses = f"127.0.0.1:0 unix:{path}"
    with metrics(
        bare_root, CDI_GEN_METRICS_LISTEN=addresses, CDI_GEN_METRICS_INTERVAL="1m"
    ) as program:
        assert path.exists()
        wait_until(lambda: get(program.port()).status == 200)


def test_a_unix_socket_is_removed_at_the_end(bare_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with metrics(bare_root, "--listen", f"unix:{path}", "--socket-mode", "0600") as program:
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            assert request(client, "/none").status == 404
        assert program.end(signal.SIGINT) == 0
        assert not path.exists()


def test_a_textfile_is_written_and_removed_at_the_end(bare_root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "textfiles"
    directory.mkdir()
    path = directory / "cdi-gen.prom"
    with metrics(bare_root, "--textfile", str(path), "--interval", "1s") as program:
        wait_until(path.exists)
        assert UP in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644
        first = path.stat().st_ino
        wait_until(lambda: path.stat().st_ino != first)
        assert program.end() == 0
    assert [*directory.iterdir()] == []


def test_once_writes_a_textfile_that_stays(bare_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "cdi-gen.prom"
    result = cdi_gen("metrics", "--once", "--textfile", str(path), "--host-root", str(bare_root))
    assert (result.code, result.out) == (0, "")
    assert UP in path.read_bytes()


def test_sighup_reports_a_web_configuration_that_is_not_valid_any_more(
    bare_root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "web.yml"
    path.write_text("{}\n")
    with metrics(bare_root, "--listen", "127.0.0.1:0", "--web-config", str(path)) as program:
        path.write_text("tls: {}\n")
        program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "CDG-O152" in program.log)
        assert program.process.poll() is None


def test_a_gpu_that_hangs_holds_up_neither_scrapes_nor_the_end(
    own_host: Callable[[str], FakeHost], tmp_path: Path
) -> None:
    fake = own_host("550-8gpu")
    values = NvmlValues(fake.nvml)
    for number in range(8):
        values.set(str(number), temperature=40 + number)
    values.hang("3")
    options = ("--listen", "127.0.0.1:0", "--interval", "1s", "--examine", "none")
    with metrics(fake.root, *options, log=tmp_path / "log") as program:
        wait_until(lambda: get(program.port(), "/healthz").status == 200)
        text = get(program.port()).body.decode()
        temperatures = re.findall(r'^DCGM_FI_DEV_GPU_TEMP{gpu="(\d)".*} (\d+)$', text, re.MULTILINE)
        assert temperatures == [(str(gpu), str(40 + gpu)) for gpu in range(8) if gpu != 3]
        assert re.search(
            r'^cdi_gen_metrics_gpu_timeouts_total{gpu="3".*} [1-9]', text, re.MULTILINE
        )
        assert program.end() == 0


@pytest.mark.parametrize(
    ("options", "code", "part"),
    [
        (("--listen", "9400"), 2, "CDG-O150"),
        (("--listen", "unix:relative"), 2, "CDG-O150"),
        (("--examine", "none", "--examine", "specs"), 2, "CDG-O155"),
        (("--device-plugin-metrics", "127.0.0.1:9401/metrics"), 2, "CDG-U001"),
        (("--listen", "[::1:9400"), 2, "CDG-O150"),
        (("--listen", "192.0.2.1:9400"), 1, "CDG-O151"),
        (("--listen", "unix:/nonexistent/socket"), 1, "CDG-O151"),
        (("--web-config", "/nonexistent"), 1, "CDG-O152"),
        (("--textfile", "/tmp/metrics.txt"), 2, "CDG-O155"),
        (("--textfile", "/nonexistent/a.prom", "--once"), 1, "CDG-O156"),
        (("--once", "--listen", ":9400"), 2, "CDG-O155"),
        (("--interval", "0s"), 2, "CDG-U001"),
        (("--socket-mode", "rw"), 2, "CDG-U001"),
    ],
)
def test_what_cannot_be_served_is_an_error(
    bare_root: Path, options: tuple[str, ...], code: int, part: str
) -> None:
    result = cdi_gen("metrics", "--host-root", str(bare_root), *options)
    assert part in failure(result, code)


def test_a_web_configuration_that_every_user_may_write_is_refused(
    bare_root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "web.yml"
    path.write_text("{}\n")
    path.chmod(0o666)
    result = cdi_gen("metrics", "--host-root", str(bare_root), "--web-config", str(path))
    assert "CDG-O153" in failure(result, 7)


def test_a_port_that_is_taken_is_an_error(bare_root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = cdi_gen("metrics", "--host-root", str(bare_root), "--listen", f"127.0.0.1:{port}")
    assert f"sport = :{port}" in failure(result, 1)
