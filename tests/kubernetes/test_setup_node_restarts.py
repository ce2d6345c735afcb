# SPDX-License-Identifier: Apache-2.0
"""`setup-node` when the engine's restart fails, or does not happen."""

from __future__ import annotations

import os
import platform

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.node import engine, restart
from cdi_gen.kubernetes.node.setup import NodeSetup
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
