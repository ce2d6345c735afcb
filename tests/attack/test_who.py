# SPDX-License-Identifier: Apache-2.0
"""Hostile containers beside ``cdi-gen who`` and ``why``: names, files that block, and containers that end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_gen import containers
from cdi_gen.containers import device_nodes, discovery, mounts, procfs
from cdi_gen.containers.device_nodes import RemoteFileSystemError
from cdi_gen.containers.procfs import ProcessDirectory
from cdi_gen.inventory.json_form import load
from tests.cli.program import GOLDEN, cdi_gen

INVENTORY = GOLDEN / "server-550-4gpu-headless/inventory.json"
ESCAPES = "\x1b[2J\nroot:0:0\t"
PATIENCE = 60

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make containers")


class Box:
    """A container of the plainest kind: processes in a mount namespace with another root."""

    def __init__(self, root: Path, prepare: str = "", name: str = "sleep") -> None:
        for directory in ("dev", "proc", "bin"):
            (root / directory).mkdir(parents=True)
        script = f"""
            mount --bind {root} {root}; mount -t tmpfs none {root}/dev
            mknod {root}/dev/nvidia0 c 195 0; mknod {root}/dev/nvidiactl c 195 255
            {prepare}
            exec "$@"
        """
        program = (
            "import os, sys, time; name = sys.argv[2].encode();"
            "os.chroot(sys.argv[1]); os.chdir('/');"
            "open('/proc/self/comm', 'wb').write(name) if os.path.exists('/proc/self') else None;"
            "print('ready', flush=True); time.sleep(1000)"
        )
        enter = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh"]
        command = [*enter, sys.executable, "-I", "-S", "-c", program, str(root), name]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[list[Box]]:
    started: list[Box] = []
    yield started
    for box in started:
        box.end()


def test_names_are_printed_safely(tmp_path: Path, boxes: list[Box]) -> None:
    """A process chooses its name; who prints it in one line, and JSON escapes it."""
    root = tmp_path / "root"
    prepare = f"mount -t proc none {root}/proc; mount --bind /dev/null {root}/dev/nvidia0"
    boxes.append(Box(root, prepare, name=ESCAPES))
    pid = boxes[0].process.pid
    for form in ("table", "wide", "json"):
        shown = cdi_gen("who", "-o", form, "--inventory", str(INVENTORY))
        assert "\x1b" not in shown.out + shown.err
        assert "Traceback" not in shown.err
    (process,) = [one for one in procfs.processes() if one.pid == pid]
    assert process.name == ESCAPES[:15]
    answer = cdi_gen("why", "--container", str(pid), "--inventory", str(INVENTORY))
    assert "\x1b" not in answer.out + answer.err


def test_device_of_a_box_is_seen(tmp_path: Path, boxes: list[Box]) -> None:
    """The control of these tests: the box counts as a container with a GPU."""
    boxes.append(Box(tmp_path / "root"))
    shown = cdi_gen("who", "-o", "json", "--inventory", str(INVENTORY))
    pids = {entry["pid"]: entry for entry in json.loads(shown.out)["containers"]}
    entry = pids[boxes[0].process.pid]
    assert [device["index"] for device in entry["devices"]] == ["0"]


@pytest.mark.parametrize(
    ("prepare", "devices"),
    [
        ("umount {root}/dev; rmdir {root}/dev; ln -s / {root}/dev", []),
        ("umount {root}/dev; rmdir {root}/dev; mkfifo {root}/dev", []),
        ("umount {root}/dev; rmdir {root}/dev", []),
        ("rm {root}/dev/nvidia0; mkfifo {root}/dev/nvidia0", []),
        ("rm {root}/dev/nvidia0; ln -s /dev/nvidiactl {root}/dev/nvidia0", []),
        ("mkdir {root}/etc; mkfifo {root}/etc/ld.so.cache", ["0"]),
        ("cd {root}/dev; for n in $(seq 3000); do echo f$n; done | xargs touch", ["0"]),
        ("rm {root}/dev/nvidia0; mknod {root}/dev/gpu c 195 3", ["3"]),
    ],
    ids=["link", "fifo", "none", "fifo as node", "link as node", "cache", "many", "renamed"],
)
def test_odd_files_neither_block_nor_mislead(
    tmp_path: Path, boxes: list[Box], prepare: str, devices: list[str]
) -> None:
    root = tmp_path / "root"
    boxes.append(Box(root, prepare.format(root=root)))
    shown = cdi_gen("who", "-o", "json", "--inventory", str(INVENTORY))
    answer = cdi_gen("why", "--container", str(boxes[0].process.pid), "--inventory", str(INVENTORY))
    assert shown.code in {0, 4}, shown
    assert answer.code in {0, 1, 4}, answer
    by_pid = {entry["pid"]: entry for entry in json.loads(shown.out)["containers"]}
    held = by_pid.get(boxes[0].process.pid, {"devices": []})["devices"]
    assert [device["index"] for device in held] == devices


def test_file_system_of_another_program_is_not_touched() -> None:
    """FUSE, in a user namespace: its server may never answer."""
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            table = mounts.parse(file.read())
        remote = [mount._replace(kind="fuse.evil") for mount in table]
        with pytest.raises(RemoteFileSystemError, match=r"fuse\.evil, which may not answer"):
            list(device_nodes.nodes(descriptor, remote))
        # A mount that has appeared since the table was read.
        with pytest.raises(RemoteFileSystemError, match="have just changed"):
            list(device_nodes.nodes(descriptor, []))
    finally:
        os.close(descriptor)


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs FUSE")
def test_root_that_never_answers_stops_nothing(tmp_path: Path) -> None:
    """An overlay over FUSE: the table of mounts does not tell what its layers are."""
    script = str(Path(__file__).with_name("silent_root.py"))
    enter = ["unshare", "-rm", "--propagation", "private"]
    with subprocess.Popen(
        [*enter, sys.executable, "-I", "-S", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == "ready\n"
        look = "from cdi_gen.containers.discovery import discover\n"
        look += "print([one.first.pid for one in discover().containers])"
        with subprocess.Popen([sys.executable, "-c", look], stdout=subprocess.PIPE) as looking:
            try:
                shown, _ = looking.communicate(timeout=PATIENCE)
            finally:
                # First the container: not even SIGKILL ends a process that waits for its answer.
                container.kill()
                looking.kill()
    assert container.pid in json.loads(shown)


def test_containers_that_end_meanwhile(tmp_path: Path) -> None:
    """Processes start and end while they are read; nothing but them is missing."""
    program = "import subprocess, sys\nwhile True:\n    subprocess.run(['unshare', '-m', 'true'])\n"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as churn:
        try:
            for _ in range(20):
                found = discovery.discover()
                assert os.getpid() in {process.pid for process in found.others} | {
                    process.pid for one in found.containers for process in one.processes
                }
        finally:
            os.killpg(churn.pid, signal.SIGKILL)


def test_directory_stays_with_its_process() -> None:
    """A later process with the same number is not read instead."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        (known,) = [one for one in procfs.processes() if one.pid == process.pid]
        with ProcessDirectory(process.pid) as directory:
            assert procfs.is_same(directory, known)
            process.kill()
            process.wait()
            with pytest.raises(ProcessLookupError):
                directory.read("stat")
        with pytest.raises(FileNotFoundError):
            ProcessDirectory(process.pid)
    assert procfs.process_of(process.pid) is None


def test_mounts_of_a_process_that_ends() -> None:
    """A process that has ended and was not waited for has a directory, and no mounts."""
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with (
            ProcessDirectory(process.pid) as directory,
            pytest.raises(OSError, match="mountinfo") as fault,
        ):
            directory.read("mountinfo")
        assert fault.value.errno in procfs.GONE
        assert procfs.process_of(process.pid) is None


def test_library_call(tmp_path: Path, boxes: list[Box]) -> None:
    boxes.append(Box(tmp_path / "root"))
    report = containers.who(inventory=load(INVENTORY.read_text()))
    (holder,) = [one for one in report.holders if one.container.first.pid == boxes[0].process.pid]
    assert [device.index for device in holder.devices] == ["0"]
    assert (report.source, report.containers > 0) == ("open files", True)
