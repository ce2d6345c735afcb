# SPDX-License-Identifier: Apache-2.0
"""`setup-node` when something goes wrong: signals, engines that do not start, races, file systems."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.node import engine, installation, restart
from cdi_gen.kubernetes.node.installed_files import InstalledFile
from cdi_gen.kubernetes.node.lock import host_lock
from cdi_gen.kubernetes.node.settings import NodeSettings
from cdi_gen.kubernetes.node.setup import NodeSetup
from tests.host.looking import REPOSITORY
from tests.kubernetes import host_trees
from tests.kubernetes.host_trees import HostTree, changes
from tests.kubernetes.kubelet import wait_until
from tests.kubernetes.test_setup_node_hosts import bundle, tree

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the programs are for x86-64"),
]
__all__ = ["bundle", "tree"]


class Host:
    """A host that a test sets up in its own process."""

    def __init__(self, tree: HostTree, bundle: Path) -> None:
        self.tree = tree
        self.bundle = bundle
        self.stopped = threading.Event()
        self.findings: list[Finding] = []

    def node_setup(self, **settings: object) -> NodeSetup:
        values = {
            "host_root": str(self.tree.root),
            "bundle": str(self.bundle),
            "restart_mode": "none",
            "wait": False,
            "pid_file": f"{self.tree.root}/run/nvidia/toolkit/toolkit.pid",
            **settings,
        }
        return NodeSetup(NodeSettings(**values), self.findings.append, self.stopped)  # type: ignore[arg-type]

    def codes(self) -> list[str]:
        return [finding.code for finding in self.findings]


@pytest.fixture
def host(tree: HostTree, bundle: Path) -> Host:
    host_trees.kubeadm(tree)
    return Host(tree, bundle)


def test_a_signal_before_the_configuration_ends_it_and_leaves_nothing(host: Host) -> None:
    before = host.tree.files()
    host.stopped.set()
    host.node_setup(wait=True).run()
    assert host.tree.files() == before
    assert "CDG-N411" not in host.codes()


def test_a_configuration_that_the_engine_rejects_is_reverted(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, False])
    monkeypatch.setattr(engine, "is_valid", lambda _files: next(answers))
    before = host.tree.files()
    with pytest.raises(CdiGenError) as caught:
        host.node_setup().run()
    assert caught.value.code == "CDG-N407"
    assert host.tree.files() == before


def test_an_engine_that_cannot_be_restarted_gets_its_configuration_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart, "PAUSE", 0.01)
    before = host.tree.files()
    with pytest.raises(CdiGenError) as caught:
        host.node_setup(restart_mode="signal").run()
    assert caught.value.code == "CDG-N406"
    # The engine that was not restarted may still start containers with the handlers.
    assert set(changes(before, host.tree.files())) <= {
        "/usr/local/nvidia",
        "/usr/local/nvidia/toolkit",
        "/usr/local/nvidia/toolkit.cdi-gen",
    }
    assert "the programs stay: /usr/local/nvidia/toolkit" in host.findings[-2].message
    # The second error, of the restart after the revert, is reported beside it.
    assert host.codes()[-1] == "CDG-N406"


def test_a_kill_while_the_configuration_is_written_is_made_good(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is killed between two handlers."""
    before = host.tree.files()
    write, written = engine._write, []

    def write_or_die(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        written.append(arguments)
        if len(written) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_write", write_or_die)
        patch.setattr(NodeSetup, "_undo", lambda *_arguments, **_options: None)
        with pytest.raises(CdiGenError, match="ended with -9"):
            host.node_setup().run()
    assert "nvidia-cdi" in host.tree.read("/etc/containerd/conf.d/99-nvidia.toml")
    host.node_setup().run()
    text = host.tree.read("/etc/containerd/conf.d/99-nvidia.toml")
    assert text.count("BinaryName") == 3
    host.node_setup().undo()
    assert host.tree.files() == before


def test_later_edits_of_the_administrator_stay(host: Host) -> None:
    host.node_setup().run()
    path = host.tree.path("/etc/containerd/config.toml")
    path.write_text(path.read_text() + '[debug]\n  level = "info"\n')
    host.node_setup().undo()
    assert path.read_text() == host_trees.KUBEADM_1 + '[debug]\n  level = "info"\n'
    assert not host.tree.path("/usr/local/nvidia").exists()


def test_a_handler_that_the_administrator_made_the_default_is_kept(host: Host) -> None:
    """An engine whose default handler does not exist does not start."""
    host.node_setup().run()
    path = host.tree.path("/etc/containerd/conf.d/99-nvidia.toml")
    text = path.read_text()
    head = '[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "nvidia"\n'
    path.write_text(text + head)
    host.node_setup().undo()
    assert 'BinaryName = "/usr/local/nvidia/toolkit/nvidia-container-runtime"' in path.read_text()
    assert "CDG-E114" in host.codes()


def test_two_instances_at_once(host: Host) -> None:
    pid_file = f"{host.tree.root}/run/nvidia/toolkit/toolkit.pid"
    with host_lock(pid_file), pytest.raises(CdiGenError) as caught:
        host.node_setup().run()
    assert caught.value.code == "CDG-N401"
    assert f"process {os.getpid()}" in caught.value.message
    host.node_setup().run()


def test_a_pid_file_that_is_a_link_is_not_followed(host: Host) -> None:
    host.tree.write("/etc/important", "text\n")
    host.tree.link("/run/nvidia/toolkit/toolkit.pid", str(host.tree.path("/etc/important")))
    with pytest.raises(CdiGenError) as caught:
        host.node_setup().run()
    assert caught.value.code == "CDG-N401"
    assert host.tree.read("/etc/important") == "text\n"


MOUNTS = {
    "read-only": ("mount --bind $1 $1 && mount -o remount,bind,ro $1", "the file system is read-only"),
    "noexec": ("mkdir -p $1/usr/local/nvidia; mount -t tmpfs -o noexec,mode=755 tmpfs $1/usr/local/nvidia",
               "it is mounted with noexec"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "reason"), MOUNTS.values(), ids=MOUNTS)
def test_a_host_where_programs_cannot_be_installed(host: Host, script: str, reason: str) -> None:
    before = host.tree.files()
    words = ("-m", "cdi_gen", "kubernetes", "setup-node", f"--host-root={host.tree.root}")
    paths = os.pathsep.join(str(REPOSITORY / name) for name in (".", "hooks", "specs"))
    ended = subprocess.run(
        [
            *("unshare", "--mount", "/bin/sh", "-ec", f'{script}; shift; exec "$@"', "sh"),
            *(str(host.tree.root), sys.executable, *words, f"--bundle={host.bundle}"),
            *("--no-daemon", "--pid-file", "/dev/shm/cdi-gen-test/toolkit.pid"),
        ],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1, ended.stderr
    assert reason in ended.stderr
    assert "--hook-free" in ended.stderr
    after = host.tree.files()
    after.pop("/usr/local/nvidia", None)  # the test's mount point
    before["/usr/local"] = after["/usr/local"]
    assert after == before


@contextmanager
def containers_that_start(program: Path) -> Iterator[list[subprocess.CompletedProcess[bytes]]]:
    """Start a program again and again, as engines do."""
    ended: list[subprocess.CompletedProcess[bytes]] = []
    is_over = threading.Event()

    def start() -> None:
        while not is_over.is_set():
            ended.append(subprocess.run([program], capture_output=True, check=False))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield ended
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_containers_that_start_during_an_upgrade_find_whole_programs(tmp_path: Path) -> None:
    root = tmp_path / "nvidia"
    versions = []
    for number in range(3):
        bundle = tmp_path / f"bundle-{number}"
        (bundle / "bin").mkdir(parents=True)
        shim = bundle / "bin/shim"
        # The shim reads a module of its own version after a while.
        shim.write_text('#!/bin/sh\nsleep 0.02; cat "$(dirname "$(realpath "$0")")/module"\n')
        shim.chmod(0o755)
        (bundle / "bin/module").write_text(f"version {number}\n")
        versions.append(os.open(bundle, os.O_RDONLY | os.O_DIRECTORY))
    extra = {"shim": InstalledFile("bin/shim", is_link=True)}
    installation.install(str(root), "0", versions[0], extra)
    with containers_that_start(root / "toolkit/shim") as ended:
        for round_ in range(30):
            number = round_ % 3
            installation.install(str(root), f"{round_}-{number}", versions[number], extra)
        wait_until(lambda: len(ended) > 20)
    for descriptor in versions:
        os.close(descriptor)
    assert {process.returncode for process in ended} == {0}
    assert {process.stdout for process in ended} <= {b"version 0\n", b"version 1\n", b"version 2\n"}


def test_an_installation_is_removed_some_time_after_its_last_use(tmp_path: Path) -> None:
    root, bundle = tmp_path / "nvidia", tmp_path / "bundle"
    (bundle / "bin").mkdir(parents=True)
    tree = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY)
    for name in ("first", "second", "third"):
        installation.install(str(root), name, tree, {})
    store = root / "toolkit.cdi-gen"
    assert {path.name for path in store.iterdir()} == {"first", "second", "third", "created"}
    os.utime(store / "first", (0, 0))
    installation.install(str(root), "fourth", tree, {})
    os.close(tree)
    assert {path.name for path in store.iterdir()} == {"second", "third", "fourth", "created"}


def test_a_partial_installation_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    root, bundle = tmp_path / "nvidia", tmp_path / "bundle"
    (bundle / "bin").mkdir(parents=True)
    (root / "toolkit.cdi-gen/1234.partial/bin").mkdir(parents=True)
    tree = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY)
    installation.install(str(root), "1234", tree, {})
    os.close(tree)
    assert installation.current(str(root)) == "1234"
    assert not (root / "toolkit.cdi-gen/1234.partial").exists()


def test_another_program_that_took_the_place_since_is_kept(tmp_path: Path) -> None:
    root, bundle = tmp_path / "nvidia", tmp_path / "bundle"
    (bundle / "bin").mkdir(parents=True)
    (root / "toolkit").mkdir(parents=True)
    tree = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY)
    installation.install(str(root), "1234", tree, {})
    os.close(tree)
    (root / "toolkit").unlink()
    (root / "toolkit").mkdir()
    (kept,) = installation.remove(str(root))
    assert "is kept" in kept
    assert (root / "toolkit").is_dir()
    assert (root / "toolkit.cdi-gen/replaced").is_dir()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a process that serves a socket, and writes to each client at once or on request."""
    processes = []
    text = """
import os, signal, socket, sys
path, speaks = sys.argv[1:]
signal.signal(signal.SIGHUP, signal.SIG_DFL) # nohup has it ignored
listener = socket.socket(socket.AF_UNIX)
listener.bind(path + ".new")
listener.listen()
os.rename(path + ".new", path)
if speaks == "as systemd": # the socket is of the parent, another process serves it
    if os.fork(): signal.pause()
    print(os.getpid(), flush=True)
while True:
    client, _ = listener.accept()
    client.sendall(b"hello")
    client.close()
"""

    def start(speaks: str = "at once") -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", text, str(tmp_path / "engine.sock"), speaks]
        processes.append(subprocess.Popen(words, stdout=subprocess.PIPE))
        wait_until((tmp_path / "engine.sock").exists)
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_the_process_that_serves_the_socket_gets_the_signal(
    server: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = server()
    assert restart.by_signal(str(tmp_path / "engine.sock"), "containerd") == process.pid
    assert process.wait(60) == -signal.SIGHUP


def test_the_process_that_answers_counts_not_the_one_that_opened_the_socket(
    server: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """systemd opens the sockets of engines that it starts on demand."""
    process = server("as systemd")
    assert process.stdout is not None
    answering = int(process.stdout.readline())
    try:
        found = restart.serving_process(str(tmp_path / "engine.sock"), "containerd")
        assert found == answering != process.pid
    finally:
        os.kill(answering, signal.SIGKILL)


def test_the_engine_is_ready_when_another_process_answers(
    server: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    path = str(tmp_path / "engine.sock")
    first = server()
    waiting = threading.Thread(
        target=lambda: restart.wait_until_ready(path, "x", first.pid, lambda: 30)
    )
    waiting.start()
    first.kill()
    first.wait()
    os.unlink(path)
    assert waiting.is_alive()
    server()
    waiting.join(60)
    assert not waiting.is_alive()
