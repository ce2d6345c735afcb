# SPDX-License-Identifier: Apache-2.0
"""Signals that arrive while a command waits for the API server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.looking import REPOSITORY
from tests.kubernetes.kubelet import wait_until

KUBECONFIG = """
current-context: a
contexts: [{name: a, context: {cluster: a, user: a}}]
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: a, user: {token: a}}]
"""


@pytest.mark.parametrize("command", ["device-plugin", "labels", "mps-control-daemon"])
def test_a_command_that_waits_for_the_api_server_is_ended_by_sigterm(
    tmp_path: Path, command: str
) -> None:
    """As process 1 of a container, too: it has a handler, whose exit code is not that of a kill."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    (tmp_path / "config").mkdir()
    paths = os.pathsep.join(str(REPOSITORY / name) for name in (".", "hooks", "specs"))
    words = ["--config-directory", str(tmp_path / "config"), "--node-name", "node-1"]
    words += ["--kubeconfig", str(kubeconfig)]
    with (tmp_path / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "cdi_gen", "kubernetes", command, *words],
            env={**os.environ, "PYTHONPATH": paths},
            stderr=errors,
        )
    try:
        wait_until(lambda: "of the node is not known" in (tmp_path / "stderr").read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
