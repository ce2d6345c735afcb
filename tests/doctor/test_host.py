# SPDX-License-Identifier: Apache-2.0
"""What checks see of a host: files that a user may not read, hostile files, logs, engines, records."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_gen.doctor import kernel_log
from cdi_gen.doctor.check import Unseen
from cdi_gen.doctor.host import Host, Scope
from cdi_gen.doctor.recording import Recording
from cdi_gen.engines.machine import Machine
from cdi_gen.host import Where
from cdi_gen.host.roots import Root
from tests.doctor.examining import log, running, write
from tests.doctor.test_driver_checks import LOADED, examined
from tests.refresh.machine import in_fork
from tests.system.machine import machine
from tests.unit.engines.machine import Told

NOBODY = 65534
JOURNAL = "[   12.500000] node kernel: NVRM: Xid (PCI:0000:3b:00): 79, pid=7, GPU has fallen off the bus.\n"

of_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that other users can enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def host_in(root: Path) -> Host:
    return Host(Where(str(root)))


@of_root
def test_ordinary_user_is_told_what_to_run_to_see(shared: Path) -> None:
    root = machine(shared / "host", LOADED)
    running(root)
    (root / "dev/kmsg").chmod(0o600)

    def as_nobody() -> tuple[str, str, str]:
        os.setuid(NOBODY)
        result = examined(root, "xid-errors")
        return result.status, result.line, result.fix

    assert in_fork(as_nobody) == (
        "unseen",
        "the kernel's log cannot be read: /dev/kmsg: Permission denied",
        "sudo cdi-gen doctor xid-errors",
    )
    assert examined(root, "xid-errors").status == "ok"


def test_journal_is_read_if_the_buffer_is_closed(tmp_path: Path) -> None:
    lines = kernel_log.read(Root(seen_from=str(tmp_path)), lambda *_: JOURNAL)
    assert lines == [[12.5, JOURNAL.partition("kernel: ")[2].rstrip()]]


def test_only_lines_about_gpus_are_kept(tmp_path: Path) -> None:
    log(tmp_path, "usb 1-1: SerialNumber: 4711", "NVRM: loading", " continuation NVRM", "IPv6: up")
    assert [line.text for line in host_in(tmp_path).kernel_log] == [
        "NVRM: loading",
        " continuation NVRM",
    ]


@pytest.mark.parametrize("kind", ["pipe", "directory", "link"])
def test_log_that_is_neither_a_device_nor_a_file_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "dev/kmsg"
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("kmsg")
    with pytest.raises(Unseen, match="the kernel's log cannot be read"):
        _ = host_in(tmp_path).kernel_log


def test_files_are_bounded_and_links_stay_in_the_root(tmp_path: Path) -> None:
    root = tmp_path / "host"
    write(tmp_path, "secret", "outside")
    write(root, "etc/long", "x" * 5000)
    (root / "etc/link").symlink_to("../../secret")
    (root / "etc/absolute").symlink_to("/etc/long")
    host = host_in(root)
    assert host.read("/etc/long", 10) == b"x" * 10
    assert host.read("/etc/link") is None
    assert host.text("/etc/absolute", 3) == "xxx"
    assert host.link("/etc/absolute") == "/etc/long"
    assert host.link("/etc/long") is None
    assert (host.entries("/etc"), host.entries("/none")) == (("absolute", "link", "long"), None)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    host = host_in(tmp_path)
    with pytest.raises(Unseen, match="/pipe cannot be read"):
        host.read("/pipe")
    status = host.status("/pipe")
    assert status is not None
    assert stat.S_ISFIFO(status.mode)


def test_bytes_that_are_not_text_are_recorded(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x06\0\0\0\x01\xff")
    host = host_in(tmp_path)
    assert host.read("/binary") == b"\x06\0\0\0\x01\xff"
    answers = json.loads(json.dumps(host.recording.answers))
    assert Host(recording=Recording(answers)).read("/binary") == b"\x06\0\0\0\x01\xff"


def test_each_file_is_read_once(tmp_path: Path) -> None:
    file = write(tmp_path, "state", "first")
    host = host_in(tmp_path)
    assert host.text("/state") == "first"
    file.write_text("second")
    assert host.text("/state") == "first"


def test_programs_that_others_can_change_are_not_run(tmp_path: Path) -> None:
    program = write(tmp_path, "tool", '#!/bin/sh\ntouch "$0.ran"\n')
    program.chmod(0o777)
    host = Host(machine=Machine({"PATH": str(tmp_path)}))
    with pytest.raises(Unseen, match="users other than root can change it"):
        host.output("tool")
    assert not Path(f"{program}.ran").exists()
    assert Host(machine=Machine({"PATH": "/none"})).output("no-such-program-anywhere") is None


def test_engines_are_asked_and_replayed() -> None:
    told = Told({"podman": "4.9.3", "dockerd": "28.3.0"})
    host = Host(machine=told)
    names = [(status.engine, status.version) for status in host.engines]
    assert names == [("docker", "28.3.0"), ("podman", "4.9.3")]
    only = Host(scope=Scope(engines=("podman",)), recording=Recording(host.recording.answers))
    assert [status.engine for status in only.engines] == ["podman"]
    assert only.engines[0] == host.engines[1]


def test_specs_are_replayed(tmp_path: Path) -> None:
    write(tmp_path, "etc/cdi/a.json", '{"cdiVersion": "0.5.0", "kind": "a.com/b", "devices": []}')
    write(tmp_path, "etc/cdi/b.yaml", "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n"
          "- name: '0'\n  containerEdits: {env: [A=b]}\n")  # fmt: skip
    host = host_in(tmp_path)
    registry = host.registry(("/etc/cdi", "/var/run/cdi"))
    assert [file.path for file in registry.files] == ["/etc/cdi/a.json", "/etc/cdi/b.yaml"]
    assert [device.name for device in registry.devices] == ["nvidia.com/gpu=0"]
    answers = json.loads(json.dumps(host.recording.answers))
    assert Host(recording=Recording(answers)).registry(("/etc/cdi", "/var/run/cdi")) == registry


def test_processes_are_found_by_name(tmp_path: Path) -> None:
    """Also behind a title that a daemon writes over its arguments; a kernel thread has none."""
    write(tmp_path, "proc/1/cmdline", "/sbin/init\0--x\0")
    write(tmp_path, "proc/1/status", "Name:\tinit\nUid:\t0\t0\t0\t0\n")
    write(tmp_path, "proc/2/cmdline", "nginx: master process")
    write(tmp_path, "proc/2/status", "Name:\tnginx\nUid:\t33\t33\t33\t33\n")
    write(tmp_path, "proc/3/cmdline", "")
    write(tmp_path, "proc/3/status", "Name:\tkthreadd\n")
    host = host_in(tmp_path)
    found = host.processes("nginx", "init", "")
    assert [(process.pid, process.name, process.user) for process in found] == [
        (1, "init", 0),
        (2, "nginx", 33),
    ]
    assert found[0].arguments == ("/sbin/init", "--x")


def test_modules_of_a_kernel_without_a_list_of_them(tmp_path: Path) -> None:
    """A kernel without loadable modules, and some containers, have no /proc/modules."""
    (tmp_path / "sys/module/nvidia").mkdir(parents=True)
    assert Host(Where(str(tmp_path))).modules == {"nvidia"}
    write(tmp_path, "proc/modules", "nvidia_uvm 1 0 - Live 0x0\n")
    assert Host(Where(str(tmp_path))).modules == {"nvidia_uvm"}
