# SPDX-License-Identifier: Apache-2.0
"""The NRI plugin with a stand-in of the engine, on a socket."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_base.findings import Finding
from cdi_gen.kubernetes.nri import plugin as nri_plugin
from cdi_gen.kubernetes.nri.plugin import Plugin
from cdi_gen.kubernetes.nri.requests import Permissions
from cdi_gen.kubernetes.nri.session import INVALID_ARGUMENT, PERMISSION_DENIED, UNIMPLEMENTED
from cdi_gen.kubernetes.protocols import nri_v1alpha1_pb2 as nri
from cdi_gen.kubernetes.protocols import ttrpc_pb2 as ttrpc
from tests.cli.program import cdi_gen
from tests.host.looking import REPOSITORY
from tests.kubernetes.kubelet import wait_until
from tests.kubernetes.nri_engine import Connection, Engine, create_request, engine, in_thread

MANAGEMENT = {"nvidia.cdi.k8s.io/container.main": "management.nvidia.com/gpu=all"}


class Running:
    """A plugin with an engine, and what it has reported."""

    def __init__(self, machine: Engine, path: Path) -> None:
        self.findings: list[Finding] = []
        self.engine = machine
        self.path = path
        permissions = Permissions(management=frozenset({"gpu-operator"}))
        self.plugin = Plugin(str(path), "10", permissions, self.findings.append)

    @property
    def codes(self) -> list[str]:
        return [finding.code for finding in self.findings]


@pytest.fixture
def running() -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "nri.sock")
        with engine(path) as machine:
            running = Running(machine, path)
            with in_thread(running.plugin):
                yield running


def test_the_engine_gets_the_devices_of_the_annotation(running: Running) -> None:
    with running.engine.plugin() as connection:
        assert connection.configure().events == 1 << 3
        assert connection.create(create_request("default", {})) == []
        devices = connection.create(create_request("gpu-operator", MANAGEMENT))
        assert devices == ["management.nvidia.com/gpu=all"]
    assert running.codes[:2] == ["CDG-N607", "CDG-N606"]


def test_a_refused_container_is_not_created_and_the_reason_is_said(running: Running) -> None:
    with running.engine.plugin() as connection:
        connection.configure()
        status = connection.create(create_request("default", MANAGEMENT))
        assert isinstance(status, ttrpc.Status)
        assert status.code == PERMISSION_DENIED
        assert "namespace 'default' may not have 'management.nvidia.com/gpu=all'" in status.message
        assert "--management-namespaces" in status.message
        assert connection.create(create_request("gpu-operator", MANAGEMENT))
    assert "CDG-N601" in running.codes


def test_an_engine_that_would_ignore_the_devices_creates_no_container(running: Running) -> None:
    with running.engine.plugin() as connection:
        connection.configure("v1.7.24")
        status = connection.create(create_request("gpu-operator", MANAGEMENT))
        assert isinstance(status, ttrpc.Status)
        assert "containerd v1.7.24 ignores the CDI devices" in status.message
        assert connection.create(create_request("default", {})) == []


def test_a_device_that_the_container_has_is_not_added_again(running: Running) -> None:
    request = create_request("gpu-operator", MANAGEMENT, "main", "management.nvidia.com/gpu=all")
    with running.engine.plugin() as connection:
        connection.configure()
        assert connection.create(request) == []


def test_the_plugin_connects_again_when_the_engine_has_started_again(running: Running) -> None:
    with running.engine.plugin() as connection:
        connection.configure()
        running.engine.stop()  # before the connection ends, or the plugin connects again
    wait_until(lambda: running.codes.count("CDG-N603") == 2)  # closed, and waiting
    time.sleep(3 * nri_plugin.RETRY)
    with engine(running.path) as second, second.plugin() as connection:
        connection.configure()
        assert connection.create(create_request("gpu-operator", MANAGEMENT))
        assert running.codes.count("CDG-N607") == 2
        assert running.codes.count("CDG-N603") == 2, "each is said once"


def test_an_engine_that_does_not_accept_the_plugin_is_asked_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nri_plugin, "pause", lambda _failures: 0.01)
    for _ in range(2):
        with running.engine.plugin() as connection:
            connection.registration()
            connection.accept(ttrpc.Status(code=2, message="invalid plugin index"))
            with pytest.raises(EOFError):
                connection.next_message()
    with running.engine.plugin() as connection:
        connection.configure()
    assert running.codes.count("CDG-N605") == 1
    assert "invalid plugin index" in next(
        f.message for f in running.findings if f.code == "CDG-N605"
    )


def test_an_engine_that_never_configures_the_plugin_is_left(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nri_plugin, "REGISTRATION_SECONDS", 0.3)
    monkeypatch.setattr(nri_plugin, "pause", lambda _failures: 0.01)
    with running.engine.plugin():  # perhaps one that began before the patch
        pass
    with running.engine.plugin() as silent:
        silent.registration()
        with pytest.raises(EOFError):
            silent.next_message()
    wait_until(
        lambda: any("has not configured the plugin" in one.message for one in running.findings)
    )


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">II", 1, (4 << 20) + 11),
        struct.pack(">II", 2, 0xFFFFFFFF),
        struct.pack(">II", 1, 10) + struct.pack(">IIBB", (4 << 20) + 1, 1, 1, 0),
    ],
    ids=["long frame", "longest frame", "long message"],
)
def test_a_frame_over_the_limit_ends_the_connection(running: Running, frame: bytes) -> None:
    with running.engine.plugin() as connection:
        connection.configure()
        connection.trunk.sendall(frame)
        with pytest.raises(EOFError):
            connection.next_message()
    wait_until(lambda: "CDG-N604" in running.codes)
    with running.engine.plugin() as connection:
        connection.configure()


def test_invalid_messages_are_refused_and_the_session_goes_on(running: Running) -> None:
    generator = random.Random(5)

    class Bytes:
        def SerializeToString(self) -> bytes:  # noqa: N802
            return b"\xff" + generator.randbytes(generator.randrange(60))

    with running.engine.plugin() as connection:
        connection.configure()
        for method in ("Configure", "Synchronize", "CreateContainer") * 20:
            assert connection.call(method, Bytes()).status.code in (INVALID_ARGUMENT, 0)
        for method, service in (("Delete", "nri.pkg.api.v1alpha1.Plugin"), ("Configure", "other")):
            assert connection.call(method, nri.Empty(), service).status.code == UNIMPLEMENTED
        assert connection.create(create_request("gpu-operator", MANAGEMENT))


def test_random_bytes_end_no_plugin(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nri_plugin, "pause", lambda _failures: 0.0)
    generator = random.Random(7)
    for size in (1, 9, 40, 400, 4000) * 4:
        with running.engine.plugin() as connection, contextlib.suppress(OSError):
            connection.trunk.sendall(generator.randbytes(size))
    with running.engine.plugin() as connection:
        connection.configure()


def test_an_engine_that_takes_no_answers_does_not_hang_the_plugin(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = Plugin._connect

    def connect_impatiently(plugin: Plugin) -> socket.socket | None:
        trunk = connect(plugin)
        if trunk is not None:
            trunk.settimeout(1.0)
        return trunk

    monkeypatch.setattr(Plugin, "_connect", connect_impatiently)
    with running.engine.plugin():  # perhaps one that began before the patch
        pass
    with running.engine.plugin() as connection:
        connection.configure()
        request = create_request("gpu-operator", {"nvidia.cdi.k8s.io": _many()})
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            _flood(connection, request)
    wait_until(
        lambda: any("does not take the answers" in finding.message for finding in running.findings)
    )


def _many() -> str:
    return ",".join(f"nvidia.com/gpu=device-with-a-long-name-{n}" for n in range(1000))


def _flood(connection: Connection, request: nri.CreateContainerRequest) -> None:
    content = ttrpc.Request(
        service="nri.pkg.api.v1alpha1.Plugin",
        method="CreateContainer",
        payload=request.SerializeToString(),
    ).SerializeToString()
    message = struct.pack(">IIBB", len(content), 99, 1, 0) + content
    for _ in range(1000):
        connection.trunk.sendall(struct.pack(">II", 1, len(message)) + message)


def test_the_command_serves_until_a_signal() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "nri.sock")
        process = subprocess.Popen(
            [sys.executable, "-m", "cdi_gen", "kubernetes", "nri", "--nri-plugin-index=7"],
            cwd=REPOSITORY,
            env={
                "PYTHONPATH": "hooks:specs",
                "NRI_SOCKET": str(path),
                "NRI_NAMESPACE": "gpu-operator",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        with engine(path) as machine, machine.plugin() as connection:
            registration = connection.registration()
            assert (registration.plugin_name, registration.plugin_idx) == ("cdi-gen", "07")
            connection.accept()
            connection.call("Configure", nri.ConfigureRequest())
            assert connection.create(create_request("gpu-operator", MANAGEMENT))
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "gets management.nvidia.com/gpu=all [CDG-N606]" in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nri-plugin-index=100",), "not a number from 0 to 99"),
        (("--management-namespaces=a,*",), "'*' is not allowed in --management-namespaces"),
        (("--cdi-kind", "nvidia"), "--cdi-kind: 'nvidia' is not a kind"),
    ],
)
def test_a_wrong_option_is_refused(words: tuple[str, ...], message: str) -> None:
    done = cdi_gen("kubernetes", "nri", *words)
    assert done.code == 2
    assert message in done.err


def test_an_engine_that_ends_each_connection_is_not_asked_five_times_a_second(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log got ten lines a second, for as long as the engine did that."""
    pauses: list[float] = []

    def sleep(_: Plugin, seconds: float) -> None:
        pauses.append(seconds)
        time.sleep(0.01)

    monkeypatch.setattr(Plugin, "_sleep", sleep)
    monkeypatch.setattr(nri_plugin, "SHORT_SECONDS", 3600.0)
    for _ in range(8):
        with running.engine.plugin() as connection:
            connection.configure()
    wait_until(lambda: len(pauses) >= 8)
    assert pauses[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
