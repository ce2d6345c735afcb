# SPDX-License-Identifier: Apache-2.0
"""The protocol of sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_gen.service_manager import ServiceManager


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.chdir(tmp_path)  # paths of sockets end at 107 characters
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("notify")
        end.settimeout(10)
        yield end


def test_messages_reach_the_service_manager(listener: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "60000000"})
    manager.ready("started")
    manager.status("working")
    manager.alive()
    manager.stopping()
    assert [listener.recv(999) for _ in range(4)] == [
        b"READY=1\nSTATUS=started",
        b"STATUS=working",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]
    assert manager.watchdog_seconds == 60.0


def test_an_abstract_address(tmp_path: Path) -> None:
    name = f"cdi-gen-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0{name}")
        end.settimeout(10)
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).status("working")
        assert end.recv(999) == b"STATUS=working"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nonexistent"}])
def test_without_a_service_manager_nothing_is_sent(environment: dict[str, str]) -> None:
    ServiceManager(environment).ready("started")


def test_a_watchdog_of_another_process_is_none(listener: socket.socket) -> None:
    variables = {"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    manager = ServiceManager(variables)
    manager.alive()
    manager.status("end")
    assert listener.recv(999) == b"STATUS=end"
