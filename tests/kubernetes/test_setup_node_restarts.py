# SPDX-License-Identifier: Apache-2.0
"""`setup-node` when the engine's restart fails, or does not happen."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from pathlib import Path

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.node import engine, restart
from cdi_gen.kubernetes.node.host_process import HostView
from cdi_gen.kubernetes.node.hosts import distributions
from cdi_gen.kubernetes.node.setup import NodeSetup
from tests.kubernetes import host_trees
from tests.kubernetes.host_trees import HostTree
from tests.kubernetes.test_setup_node_faults import Host, bundle, host, tree

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the programs are for x86-64"),
]
__all__ = ["bundle", "host", "tree"]


class Restarts:
    """Takes the place of the restart of an engine, which fails as often as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures = 0
        self.count = 0
        monkeypatch.setattr(restart, "by_signal", self._restart)

    def _restart(self, *_: object) -> int:
        if self.failures:
            self.failures -= 1
            raise restart.RestartError("the engine cannot be signalled")
        self.count += 1
        return 1


def test_a_restart_that_failed_at_the_undo_is_made_up_by_the_next_one(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second undo found nothing to revert, removed the programs, and left the engine with
    handlers whose programs were gone."""
    restarts = Restarts(monkeypatch)
    before = host.tree.files()
    host.node_setup(restart_mode="signal").run()
    restarts.failures = 1
    with pytest.raises(CdiGenError, match="cannot be signalled"):
        host.node_setup(restart_mode="signal").undo()
    assert host.tree.path("/usr/local/nvidia/toolkit/nvidia-container-runtime").exists()
    restarts.count = 0
    host.node_setup(restart_mode="signal").undo()
    assert restarts.count == 1
    assert host.tree.files() == before


def test_a_restart_that_failed_at_the_set_up_is_made_up_by_the_undo(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts = Restarts(monkeypatch)
    restarts.failures = 2
    with pytest.raises(CdiGenError, match="cannot be signalled"):
        host.node_setup(restart_mode="signal").run()
    host.node_setup(restart_mode="signal").undo()
    assert restarts.count == 1


def test_a_process_that_was_killed_before_the_restart_leaves_it_to_the_next_one(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next set-up found the handlers in the configuration, and did not restart the engine."""
    restarts = Restarts(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(NodeSetup, "_undo", lambda *_arguments, **_options: None)
        restarts.failures = 1
        with pytest.raises(CdiGenError, match="cannot be signalled"):
            host.node_setup(restart_mode="signal").run()
    host.node_setup(restart_mode="signal").run()
    assert restarts.count == 1
    host.node_setup(restart_mode="signal").run()
    assert restarts.count == 1, "nothing is left to do"


def test_a_configuration_that_is_not_changed_needs_no_restart(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts = Restarts(monkeypatch)

    def refuse(*_: object) -> bool:
        raise CdiGenError("only by hand", code="CDG-E011")

    monkeypatch.setattr(engine, "configure", refuse)
    with pytest.raises(CdiGenError, match="only by hand"):
        host.node_setup(restart_mode="signal").run()
    assert restarts.count == 0


class Systemctl:
    """Answers in the place of systemctl."""

    def __init__(self, active: str, status: int = 0) -> None:
        self.active = active
        self.status = status
        self.restarted: list[str] = []

    def run(
        self, command: list[str], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        assert environment["SYSTEMD_IGNORE_CHROOT"] == "1"
        if command[1] == "is-active":
            return subprocess.CompletedProcess(command, int(command[-1] != self.active))
        self.restarted.append(command[-1])
        return subprocess.CompletedProcess(command, self.status, stderr=b"Job failed.\n")


def test_systemd_restarts_the_unit_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is a server or an agent of RKE2."""
    systemctl = Systemctl("rke2-agent")
    monkeypatch.setattr(restart, "_run", systemctl.run)
    (rke2,) = (row for row in distributions() if row.name == "RKE2")
    restart.by_systemd(rke2, HostView())
    assert systemctl.restarted == ["rke2-agent"]


def test_a_unit_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "_run", Systemctl("crio", status=1).run)
    (crio,) = (row for row in distributions() if row.name == "CRI-O")
    with pytest.raises(restart.RestartError, match=r"systemctl restart crio failed: Job failed\."):
        restart.by_systemd(crio, HostView())


def test_an_engine_that_never_answers_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(restart.RestartError) as caught:
        restart.wait_until_ready(str(tmp_path / "no.sock"), "containerd", None, lambda: 0.3)
    assert caught.value.code == "CDG-N407"


def test_an_engine_that_removes_its_socket_and_does_not_start_gets_its_configuration_back(
    tree: HostTree, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CRI-O ends without its socket; systemd does not wait for a unit of Type=simple."""
    host_trees.crio(tree)
    path = tree.path("/run/crio/crio.sock")
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(path.parent, os.O_PATH)
        # The path of a socket has 107 bytes at most.
        server.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        monkeypatch.setattr(restart, "by_systemd", lambda *_arguments: path.unlink(missing_ok=True))
        monkeypatch.setattr(restart, "READY_SECONDS", 0.3)
        with pytest.raises(CdiGenError) as caught:
            Host(tree, bundle).node_setup(restart_mode="systemd").run()
    assert caught.value.code == "CDG-N407"
    assert not tree.path("/etc/crio/crio.conf.d/99-nvidia.toml").exists()
