# SPDX-License-Identifier: Apache-2.0
"""MPS control daemons: started, adopted, watched, started again, ended when nobody uses them.

Most tests run twice, with a stand-in for NVIDIA's control program and with the real one of driver
550, which needs no GPU as long as no CUDA program connects.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen.kubernetes import reports
from cdi_gen.kubernetes.mps import directories, keeper, program
from cdi_gen.kubernetes.mps.daemons import MpsDaemons
from cdi_gen.kubernetes.mps.directories import MpsRoot
from cdi_gen.kubernetes.mps.errors import MpsError
from cdi_gen.kubernetes.mps.program import ControlProgram, control_program
from cdi_gen.kubernetes.plugin.supervisor import Supervisor
from tests.fakehost.hosts import FakeHost
from tests.host.looking import SOURCES
from tests.kubernetes.kubelet import Kubelet, wait_until
from tests.kubernetes.mps_node import (
    GPU,
    HGX,
    PROCESS,
    UUIDS,
    MpsNode,
    folder,
    node,
    own_program,
    quick,
    stand_in,
    with_programs,
)
from tests.kubernetes.test_supervisor import SetHost

__all__ = ["folder", "node", "quick", "stand_in"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may use the directory of MPS")


def test_each_gpu_has_a_daemon_with_limits_and_a_socket_for_containers(node: MpsNode) -> None:
    mps = node.start()
    assert mps.unusable() == frozenset(UUIDS[:2]), "no pod gets a device before its daemon serves"
    wait_until(lambda: not mps.unusable())
    assert sorted(node.root.names()) == sorted(UUIDS[:2])
    for uuid in UUIDS[:2]:
        clients = node.folder / "mps" / uuid / "clients"
        assert os.listdir(clients) == ["control"]
        assert node.ask(uuid, "get_default_active_thread_percentage", "clients") == "25.0"
        assert node.ask(uuid, "get_default_device_pinned_mem_limit 0") in {"20G", "20480M"}
        environment = Path(f"/proc/{node.pid(uuid)}/environ").read_text("utf-8").split("\0")
        assert f"CUDA_VISIBLE_DEVICES={uuid}" in environment
    assert "25 % of the threads and 20480 MiB" in node.messages("CDG-N223")[0]


def test_a_daemon_that_is_killed_is_started_again(node: MpsNode) -> None:
    mps = node.serving()
    victim, other = node.pid(UUIDS[0]), node.pid(UUIDS[1])
    clients = node.folder / "mps" / UUIDS[0] / "clients"
    container = os.open(clients, os.O_PATH | os.O_DIRECTORY)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: node.messages("CDG-N222"))
    assert f"{UUIDS[0]} cannot be shared by MPS: the daemon ended" in node.messages("CDG-N222")[0]
    wait_until(lambda: not mps.unusable())
    assert node.pid(UUIDS[0]) != victim
    assert node.pid(UUIDS[1]) == other
    # Metrics count these, and the node gets an Event for each; that a daemon starts is none.
    wait_until(lambda: len(node.observer.changes) >= 2)
    assert [(change.uuid, change.healthy, change.finding.code) for change in node.observer.changes] == [
        (UUIDS[0], False, "CDG-N222"), (UUIDS[0], True, "CDG-N223"),
    ]  # fmt: skip
    control = control_program(node.host, "/", "")
    # A container that runs has the directory, and sees the new socket in it.
    seen = {"CUDA_MPS_PIPE_DIRECTORY": f"/proc/{os.getpid()}/fd/{container}"}
    assert control.ask(seen, "get_default_active_thread_percentage") == "25.0"
    os.close(container)


def test_a_daemon_inherits_nothing_of_the_plugin(node: MpsNode) -> None:
    """It outlives the plugin, and the kubelet would not see the end of a connection."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    node.serving()
    os.close(writing)
    poll = select.poll()
    poll.register(reading, select.POLLIN | select.POLLHUP)
    assert poll.poll(60_000), "no other process has the pipe"
    os.close(reading)
    process = Path(f"/proc/{node.pid(UUIDS[0])}")
    assert (process / "cwd").readlink() == Path("/")


def test_a_gpu_is_unusable_while_its_daemon_is_gone(
    node: MpsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    mps = node.serving()
    monkeypatch.setattr(reports, "PAUSES", (60.0,))  # the end of the test ends the pause
    os.kill(node.pid(UUIDS[0]), signal.SIGKILL)
    wait_until(lambda: mps.unusable() == frozenset(UUIDS[:1]))


def test_a_daemon_that_hangs_is_taken_out_and_comes_back(
    node: MpsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    mps = node.serving()
    pid = node.pid(UUIDS[0])
    with monkeypatch.context() as patch:
        patch.setattr(ControlProgram.ask, "__kwdefaults__", {"seconds": 0.3})
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: UUIDS[0] in mps.unusable())
        assert "has not answered for 0 s" in node.messages("CDG-N222")[0]
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not mps.unusable())
    assert node.pid(UUIDS[0]) == pid, "containers that use it go on"


def test_a_daemon_that_hangs_for_long_is_replaced(
    node: MpsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    mps = node.serving()
    pid = node.pid(UUIDS[0])
    hanging = os.pidfd_open(pid)
    with monkeypatch.context() as patch:
        patch.setattr(ControlProgram.ask, "__kwdefaults__", {"seconds": 0.3})
        patch.setattr(keeper, "HANG_SECONDS", 0.5)
        os.kill(pid, signal.SIGSTOP)
        poll = select.poll()
        poll.register(hanging, select.POLLIN)
        assert poll.poll(60_000), "it is killed"
    os.close(hanging)
    assert any(UUIDS[0] in text for text in node.messages("CDG-N222"))
    wait_until(lambda: not mps.unusable() and node.pid(UUIDS[0]) != pid)


def test_daemons_outlive_the_plugin_and_the_next_one_adopts_them(node: MpsNode) -> None:
    node.serving().stop()
    pids = [node.pid(uuid) for uuid in UUIDS[:2]]
    node.findings.clear()
    mps = node.serving(node.shared(replicas=10))
    assert [node.pid(uuid) for uuid in UUIDS[:2]] == pids
    assert all(" adopted: 10 % " in message for message in node.messages("CDG-N223"))
    assert node.ask(UUIDS[0], "get_default_active_thread_percentage") == "10.0"
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: node.messages("CDG-N222"))
    wait_until(lambda: not mps.unusable())


def test_a_plugin_can_wait_for_the_daemons_of_another_process(node: MpsNode) -> None:
    plugin = node.start(starts=False)
    wait_until(lambda: len(node.messages("CDG-N222")) == 2)
    assert "its daemon does not run" in node.messages("CDG-N222")[0]
    assert not node.root.names()
    assert plugin.unusable() == frozenset(UUIDS[:2])
    other = node.serving()
    wait_until(lambda: not plugin.unusable())
    other.stop()
    os.kill(node.pid(UUIDS[0]), signal.SIGKILL)
    wait_until(lambda: plugin.unusable() == frozenset(UUIDS[:1]))
    time.sleep(0.5)
    assert plugin.unusable(), "it starts none"


def test_a_daemon_in_another_pid_namespace_is_watched_by_its_socket(
    node: MpsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.serving().stop()
    pid = node.pid(UUIDS[0])
    monkeypatch.setattr(keeper, "LOOK_INTERVAL", 0.1)
    monkeypatch.setattr(keeper, "ASK_INTERVAL", 60.0)
    monkeypatch.setattr(MpsRoot, "process", lambda root, name: PROCESS(root, name) and 0)
    mps = node.start(starts=False)
    wait_until(lambda: not mps.unusable())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: mps.unusable() == frozenset(UUIDS[:1]))


def test_one_daemon_for_all_gpus_where_a_container_may_get_several(node: MpsNode) -> None:
    node.serving(node.shared(fail_requests_greater_than_one=False))
    (name,) = node.root.names()
    assert name.startswith("gpus-")
    environment = Path(f"/proc/{node.pid(name)}/environ").read_text("utf-8").split("\0")
    assert f"CUDA_VISIBLE_DEVICES={UUIDS[0]},{UUIDS[1]}" in environment
    assert node.ask(name, "get_default_device_pinned_mem_limit 1") in {"20G", "20480M"}


def test_daemons_that_are_not_wanted_end_when_nobody_uses_them(node: MpsNode) -> None:
    node.serving()
    node.running[0].want((), node.host, lambda: None)
    wait_until(lambda: not node.root.names())


def test_a_daemon_with_clients_is_not_ended(stand_in: MpsNode) -> None:
    mps = stand_in.serving()
    stand_in.behave("clients")
    mps.want((), stand_in.host, lambda: None)
    time.sleep(1)
    assert sorted(stand_in.root.names()) == sorted(UUIDS[:2])
    assert stand_in.pid(UUIDS[0])
    stand_in.behave()
    wait_until(lambda: not stand_in.root.names())


def test_a_program_without_the_option_for_all_users(stand_in: MpsNode) -> None:
    """The program of driver 550 takes the option for a command and ends."""
    stand_in.behave("old")
    stand_in.serving()
    assert stand_in.codes().count("CDG-N224") == 1


def test_the_option_for_all_users_is_used(stand_in: MpsNode) -> None:
    stand_in.serving()
    command = Path(f"/proc/{stand_in.pid(UUIDS[0])}/cmdline").read_text("utf-8")
    assert "-multiuser-server" in command
    assert "CDG-N224" not in stand_in.codes()


def test_a_daemon_that_does_not_start_is_tried_again(stand_in: MpsNode) -> None:
    stand_in.behave("dies")
    mps = stand_in.start()
    wait_until(lambda: len(stand_in.messages("CDG-N222")) >= 2)
    assert "ended at once: an error of the driver" in stand_in.findings[0].message
    time.sleep(0.5)
    assert len(stand_in.findings) == 2, "once for each GPU"
    assert mps.unusable() == frozenset(UUIDS[:2])
    stand_in.behave()
    wait_until(lambda: not mps.unusable())


def test_limits_that_are_not_accepted_keep_the_gpu_from_pods(stand_in: MpsNode) -> None:
    stand_in.behave("refuses")
    mps = stand_in.start()
    wait_until(lambda: stand_in.messages("CDG-N221"))
    assert "does not accept its limits: Insufficient privileges" in stand_in.findings[0].message
    assert mps.unusable() == frozenset(UUIDS[:2])


def test_a_host_without_the_control_program(folder: Path) -> None:
    node = MpsNode(folder, replace(HGX, files=()))
    mps = node.start()
    (finding,) = node.findings
    assert (finding.code, mps.unusable()) == ("CDG-N221", frozenset(UUIDS[:2]))
    assert "has no nvidia-cuda-mps-control" in finding.message
    node.host = with_programs(own_program(folder))
    mps.want(node.resources(node.settings), node.host, lambda: None)
    wait_until(lambda: not mps.unusable())
    node.end()


def test_a_program_that_others_can_change_is_not_run(stand_in: MpsNode) -> None:
    (stand_in.folder / program.CONTROL).chmod(0o777)
    stand_in.start()
    assert "is not run:" in stand_in.messages("CDG-N221")[0]
    assert "can be written to by others" in stand_in.messages("CDG-N221")[0]


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        ("directory of others", "is not used: .* can be written to by others"),
        ("link", "is not used: .*elsewhere can be written to by others"),
        ("file", "cannot be made: Not a directory"),
    ],
)
def test_a_directory_that_others_can_change_is_not_used(
    stand_in: MpsNode, hostile: str, message: str
) -> None:
    target = stand_in.folder / "elsewhere"
    target.mkdir(mode=0o777)
    target.chmod(0o777)
    path = stand_in.folder / "mps" / UUIDS[0]
    path.parent.mkdir()
    if hostile == "link":
        path.symlink_to(target)
    elif hostile == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777)
    mps = stand_in.start()
    wait_until(lambda: mps.unusable() == frozenset(UUIDS[:1]) and stand_in.messages("CDG-N221"))
    assert re.search(message, stand_in.messages("CDG-N221")[0])
    assert not list(target.iterdir())


def test_a_long_log_is_shortened(stand_in: MpsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "MAX_LOG_BYTES", 100)
    stand_in.serving()
    log = Path(stand_in.root.path) / UUIDS[0] / "log/control"
    with log.open("a", encoding="utf-8") as stream:
        stream.write("x" * 1000)
    wait_until(lambda: log.stat().st_size < 100)


def test_a_plugin_in_a_container_starts_the_program_in_the_hosts_root(
    own_host: Callable[[str], FakeHost], quick: None
) -> None:
    host = own_host("550-8gpu")
    path = f"/usr/bin/{program.CONTROL}"
    node = MpsNode(host.root, with_programs(path, f"/usr/sbin/{program.SERVER}"))
    node.root = MpsRoot("/run/mps", str(host.root))
    node.settings = replace(node.shared(), mps_root="/run/mps")
    node.serving()
    process = Path(f"/proc/{node.pid(UUIDS[0])}")
    assert (process / "root").readlink() == host.root
    assert b"CUDA_MPS_PIPE_DIRECTORY=/run/mps/GPU-" in (process / "environ").read_bytes()
    assert os.listdir(host.root / "run/mps" / UUIDS[0] / "clients") == ["control"]
    os.kill(node.pid(UUIDS[0]), signal.SIGKILL)
    wait_until(lambda: node.messages("CDG-N222"))
    wait_until(lambda: not node.running[0].unusable())
    node.end()


def test_the_command_keeps_daemons_without_a_device_plugin(
    own_host: Callable[[str], FakeHost], tmp_path: Path
) -> None:
    host = own_host("550-8gpu")
    config = tmp_path / "config.yaml"
    resource = "{name: nvidia.com/gpu, devices: [3], replicas: 5}"
    config.write_text(f"version: v1\nsharing: {{mps: {{resources: [{resource}]}}}}", "utf-8")
    options = ("--host-root", host.root, "--mps-root", "/run/mps", "--config-file", config)
    words = (sys.executable, "-m", "cdi_gen", "kubernetes", "mps-control-daemon", *options)
    root = MpsRoot("/run/mps", str(host.root))
    errors = tmp_path / "errors"
    with errors.open("wb") as stream:
        process = subprocess.Popen(words, env={"PYTHONPATH": SOURCES}, stderr=stream)
    try:
        wait_until(lambda: "started: 20 % of the threads and" in errors.read_text("utf-8"))
        (name,) = root.names()
        assert os.listdir(host.root / "run/mps" / name / "clients") == ["control"]
    finally:
        process.terminate()
        code = process.wait(60)
    daemon = root.process(name)
    os.kill(daemon, signal.SIGKILL)
    assert code == 0, errors.read_text("utf-8")
    assert f"the MPS daemon of {name} started: " in errors.read_text("utf-8")


def test_the_kubelet_gets_devices_whose_daemon_serves(stand_in: MpsNode) -> None:
    settings = replace(
        stand_in.settings,
        kubelet_socket=str(stand_in.folder / "kubelet.sock"),
        cdi_root=str(stand_in.folder / "cdi"),
    )
    kubelet = Kubelet(stand_in.folder)
    kubelet.start()
    mps = MpsDaemons(stand_in.root, stand_in.findings.append)
    host = SetHost(stand_in.host)
    supervisor = Supervisor(settings, host, stand_in.findings.append, mps=mps)
    try:

        def is_healthy() -> bool:
            supervisor.step(time.monotonic())
            return set(kubelet.devices(GPU).values()) == {"Healthy"}

        wait_until(is_healthy)
        plugin = kubelet.plugins[GPU]
        answer = plugin.allocate(f"{UUIDS[0]}::1")
        (mount,) = answer.mounts
        assert mount.read_only
        assert os.listdir(mount.host_path) == ["control"]
        stand_in.behave("dies")
        os.kill(stand_in.pid(UUIDS[0]), signal.SIGKILL)
        wait_until(mps.unusable)
        supervisor.step(time.monotonic())
        wait_until(lambda: "Unhealthy" in plugin.devices.values())
        unhealthy = {name for name, health in plugin.devices.items() if health == "Unhealthy"}
        assert unhealthy == {f"{UUIDS[0]}::{number}" for number in range(4)}
        stand_in.behave()
        wait_until(lambda: not mps.unusable())
        supervisor.step(time.monotonic())
        wait_until(lambda: "Unhealthy" not in plugin.devices.values())
    finally:
        supervisor.close()
        for server in supervisor._servers.values():
            server.stop()
        kubelet.stop()


def test_limits_need_an_answer() -> None:
    with pytest.raises(MpsError, match="cannot be run"):
        ControlProgram(path="/nonexistent/program").limit({}, "x")
