# SPDX-License-Identifier: Apache-2.0
"""`setup-node` is killed between any two changes of the file system: nothing is lost by it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdi_base import files
from cdi_base.findings import Finding
from cdi_gen.engines.change import configuration_file, exchange, replacement
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.kubernetes.node import installation, lock, restart, specs
from cdi_gen.kubernetes.node.installed_files import InstalledFile
from cdi_gen.kubernetes.node.settings import NodeSettings
from cdi_gen.kubernetes.node.setup import NodeSetup
from tests.kubernetes.test_setup_node_faults import Host, bundle, host, tree

__all__ = ["bundle", "host", "tree"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

CHANGES = frozenset(
    {"os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.link", "os.chmod", "open"}
)
"""Audit events of calls that change the file system."""


def killed_at(number: int, function: Callable[[], object]) -> bool:
    """Call a function in a child, which is killed before the change of that number; say whether."""
    child = os.fork()
    if child == 0:
        count = 0

        def audit(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            is_reading = event == "open" and not int(str(arguments[2] or 0)) & os.O_CREAT
            if event in CHANGES and not is_reading:
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(audit)
            function()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


class Place:
    """A directory for programs, and the bundle that is installed there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "nvidia"
        self.toolkit = self.root / "toolkit"
        bundle = folder / "bundle"
        (bundle / "bin").mkdir(parents=True)
        for name in ("hook", "shim"):
            (bundle / "bin" / name).write_text(name)
        self.bundle = bundle

    def install(self, name: str = "0123") -> None:
        tree = os.open(self.bundle, os.O_RDONLY | os.O_DIRECTORY)
        try:
            extra = {"wrapper": InstalledFile("text", 0o755)}
            installation.install(str(self.root), name, tree, extra)
        finally:
            os.close(tree)

    def remove(self) -> list[str]:
        return installation.remove(str(self.root))

    def is_whole(self) -> bool:
        files = {str(path.relative_to(self.toolkit)) for path in self.toolkit.rglob("*")}
        return files == {"bin", "bin/hook", "bin/shim", "wrapper"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextmanager
def swapping(*, at_once: bool) -> Iterator[None]:
    """Let names be exchanged in one step, or not, as on NFS."""
    before = exchange.exchange_names

    def refuse(one: str, other: str) -> None:
        raise OSError(exchange.UNSUPPORTED[0], "not supported", one)

    exchange.exchange_names = before if at_once else refuse
    try:
        yield
    finally:
        exchange.exchange_names = before


@pytest.mark.parametrize("at_once", [True, False], ids=["exchange", "no exchange"])
@pytest.mark.parametrize("action", ["install", "remove"])
def test_a_kill_loses_nothing_that_was_there_before(
    place: Place, action: str, at_once: bool
) -> None:
    """The original toolkit had the name of a partial installation for a moment, and the next
    start would have deleted it; a link of ours that was left ended every later start."""
    number = 0
    was_killed = True
    with swapping(at_once=at_once):
        while was_killed:
            number += 1
            shutil.rmtree(place.root, ignore_errors=True)
            place.toolkit.mkdir(parents=True)
            (place.toolkit / "of-nvidia").write_text("original")
            if action == "remove":
                place.install()
            was_killed = killed_at(number, place.install if action == "install" else place.remove)
            place.install()
            assert place.is_whole(), f"change {number}"
            assert place.remove() == [], f"change {number}"
            assert (place.toolkit / "of-nvidia").read_text() == "original", f"change {number}"
            assert [path.name for path in place.root.iterdir()] == ["toolkit"], f"change {number}"
    assert number > 8


def test_a_removal_that_was_killed_can_be_repeated(place: Place) -> None:
    """An installation of which a part was removed kept its name, and was used again as a whole."""
    number, was_killed = 0, True
    while was_killed:
        number += 1
        shutil.rmtree(place.root, ignore_errors=True)
        place.root.mkdir()
        place.install("old")
        place.install("0123")
        was_killed = killed_at(number, place.remove)
        assert place.remove() == [], f"change {number}"
        assert not list(place.root.iterdir()), f"change {number}"
    assert number > 8


@pytest.mark.parametrize("end", ["remove", "install and remove"])
@pytest.mark.parametrize("action", ["install", "remove"])
def test_a_kill_leaves_no_directory(tmp_path: Path, action: str, end: str) -> None:
    """A process that was killed before it had noted its directories left them for ever."""
    place = Place(tmp_path)
    place.root = tmp_path / "opt/nvidia"
    number, was_killed = 0, True
    while was_killed:
        number += 1
        if action == "remove":
            place.install()
        was_killed = killed_at(number, place.install if action == "install" else place.remove)
        if end == "install and remove":
            place.install()
        assert place.remove() == [], f"change {number}"
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"], f"change {number}"
    assert number > 8


def test_a_directory_that_others_use_by_now_stays(place: Place) -> None:
    place.install()
    (place.root / "of-another").write_text("text")
    assert place.remove() == []
    assert [path.name for path in place.root.iterdir()] == ["of-another"]


def test_a_kill_leaves_no_directory_of_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "run/nvidia/toolkit/toolkit.pid"

    def hold() -> None:
        with lock.host_lock(str(path)):
            assert path.exists()

    number, was_killed = 0, True
    while was_killed:
        number += 1
        was_killed = killed_at(number, hold)
        hold()
        assert not list(tmp_path.iterdir()), f"change {number}"
    assert number > 6


def test_a_file_of_a_user_with_a_temporary_name_stays(tmp_path: Path) -> None:
    """The pid file may be in a directory where every user may create files."""
    name = f".cdi-gen-{'0' * 16}.tmp.partial"
    (tmp_path / name).write_text(f"{tmp_path}/empty\n")
    (tmp_path / "empty").mkdir()
    os.chown(tmp_path / name, 1000, 1000)
    with lock.host_lock(str(tmp_path / "toolkit.pid")):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {name, "empty"}


def test_nothing_is_removed_through_a_link_of_another_user(tmp_path: Path) -> None:
    """Set-up refused the directory, and the undo after it deleted what its link led to."""
    precious = tmp_path / "etc"
    precious.mkdir()
    (precious / "passwd").write_text("root")
    root = tmp_path / "of-a-user"
    root.mkdir()
    (root / "toolkit.cdi-gen").symlink_to(precious)
    os.chown(root, 1000, 1000)
    with pytest.raises(UnsafeError, match="not a directory that only root can change"):
        installation.remove(str(root))
    assert (precious / "passwd").read_text() == "root"


@pytest.mark.parametrize("kind", ["text of another program", "pipe"])
def test_a_pid_file_of_another_kind_is_left(tmp_path: Path, kind: str) -> None:
    """The file was emptied, and removed at the end."""
    path = tmp_path / "toolkit.pid"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("[settings]\n")
    with (
        pytest.raises(CdiGenError, match="file of another program") as caught,
        lock.host_lock(str(path)),
    ):
        pass
    assert caught.value.code == "CDG-N401"
    assert path.exists()
    assert kind == "pipe" or path.read_text() == "[settings]\n"


class Started:
    """A set-up of this machine's own root, whose steps tests replace."""

    def __init__(self, folder: Path) -> None:
        self.stopped = threading.Event()
        self.findings: list[Finding] = []
        self.setup = NodeSetup(
            NodeSettings(
                root=str(folder / "nvidia"),
                cdi_directory=str(folder / "cdi"),
                configure_engine=False,
                hooks=False,
                pid_file=str(folder / "toolkit.pid"),
            ),
            self.findings.append,
            self.stopped,
        )


def test_an_error_of_the_file_system_is_a_sentence_and_everything_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a host root of its own, an OSError passed by the undo."""
    started = Started(tmp_path)
    undone: list[bool] = []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/var/run/cdi/x")

    monkeypatch.setattr(specs, "node_specs", lambda *_: ())
    monkeypatch.setattr(specs, "write_specs", full)
    monkeypatch.setattr(NodeSetup, "_undo", lambda *_, **__: undone.append(True))
    host = type("Host", (), {"fingerprint": lambda _: 1, "facts": lambda _: FACTS})()
    monkeypatch.setattr(NodeSetup, "_host", lambda _: host)
    with pytest.raises(CdiGenError, match="/var/run/cdi/x: No space left on device"):
        started.setup.run()
    assert undone


FACTS = type("Facts", (), {"inventory": None})()


def test_a_full_file_system_later_does_not_end_the_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spec that could not be written again took the handlers from the node, and restarted the
    engine."""
    started = Started(tmp_path)
    writes: list[int] = []

    def write(*_: object) -> list[dict[str, str]]:
        writes.append(1)
        if len(writes) == 2:
            raise OSError(28, "No space left on device", "/var/run/cdi/x")
        if len(writes) == 3:
            started.stopped.set()
        return []

    prints = iter(range(1000))
    host = type("Host", (), {"fingerprint": lambda _: next(prints), "facts": lambda _: FACTS})()
    monkeypatch.setattr("cdi_gen.kubernetes.node.setup.CHECK_SECONDS", 0.01)
    monkeypatch.setattr(specs, "node_specs", lambda *_: ())
    monkeypatch.setattr(specs, "write_specs", write)
    monkeypatch.setattr(NodeSetup, "_host", lambda _: host)
    started.setup.run()
    assert len(writes) == 3
    messages = [finding.message for finding in started.findings if finding.code == "CDG-N414"]
    assert messages == ["no spec is written yet: /var/run/cdi/x: No space left on device"]


def test_a_host_without_a_driver_is_not_examined_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look took half a second of processor time, every five seconds."""
    started = Started(tmp_path)
    looks, asked = 0, 0

    class Host:
        def fingerprint(self) -> int:
            nonlocal looks
            looks += 1
            if looks == 50:
                started.stopped.set()
            return 1

        def facts(self) -> None:
            nonlocal asked
            asked += 1
            raise CdiGenError("no driver", code="CDG-H001")

    monkeypatch.setattr("cdi_gen.kubernetes.node.setup.CHECK_SECONDS", 0.001)
    monkeypatch.setattr(NodeSetup, "_host", lambda _: Host())
    started.setup.run()
    assert asked <= 2


def test_a_signal_shortens_the_wait_for_an_engine(tmp_path: Path) -> None:
    """A kubelet waits 30 seconds for the undo, and the engine had a minute."""
    is_stopped = False

    def sleep(_: float) -> None:
        nonlocal is_stopped
        is_stopped = True

    with pytest.raises(CdiGenError, match="does not answer"):
        restart.wait_until_ready(
            str(tmp_path / "no.sock"), "containerd", None, lambda: 0 if is_stopped else 600, sleep
        )


def test_a_kill_leaves_no_change_without_its_record(tmp_path: Path) -> None:
    """The old record was removed before the new one was written: after a kill, or with a full file
    system, the handlers stayed in the configuration for ever."""
    path = tmp_path / "config.toml"

    def change(text: str) -> None:
        file = configuration_file.read(str(path))
        record = configuration_file.recorded(file)
        new = record.with_step(None, file.text, text, ())
        replacement.replace(file, text, new, first=not record.steps)

    number, was_killed = 0, True
    while was_killed:
        number += 1
        for left in tmp_path.iterdir():
            left.unlink()
        path.write_text("of the administrator")
        change("one")
        change("two")
        was_killed = killed_at(number, lambda: change("three"))
        file = configuration_file.read(str(path))
        record = configuration_file.recorded(file)
        assert len(record.steps) == {"two": 2, "three": 3}[file.text or ""], f"change {number}"
        original = configuration_file.original(file, record)
        assert original is not None
        assert original.text == "of the administrator"
    assert number > 4


def test_a_file_system_that_is_full_at_the_first_note_gets_no_directory(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory was there without the note that it is ours, and stayed for ever."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_new", full)
    with pytest.raises(CdiGenError, match="/nvidia: No space left on device"):
        place.install()
    assert place.remove() == []
    assert not place.root.exists()


def test_a_temporary_file_of_a_killed_process_is_removed_by_the_undo(host: Host) -> None:
    before = host.tree.files()
    host.node_setup().run()
    host.tree.write("/etc/containerd/.cdi-gen-0123456789abcdef.tmp", "half of a file")
    host.node_setup().undo()
    assert host.tree.files() == before
