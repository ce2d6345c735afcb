# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen watch`` as a process, with real refreshes of a fake host."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.program import CHECKOUT, ENVIRONMENT, PROGRAM
from tests.fakehost.hosts import FakeHost
from tests.kubernetes.kubelet import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace")


class Watching:
    """The process, and the directories that it sees as /run/cdi and /run/cdi-gen."""

    def __init__(self, process: subprocess.Popen[bytes], run: Path, log: Path) -> None:
        self.process = process
        self.specs = run / "cdi"
        self._log = log

    def log(self) -> str:
        return self._log.read_text()

    def devices(self) -> set[str]:
        path = self.specs / "nvidia.json"
        if not path.exists():
            return set()
        return {device["name"] for device in json.loads(path.read_text())["devices"]}


@contextmanager
def watching(fake: FakeHost, folder: Path) -> Iterator[Watching]:
    run, log = folder / "run", folder / "log"
    run.mkdir()
    words = [*PROGRAM, "watch", "--host-root", str(fake.root)]
    script = f"mount --bind {shlex.quote(str(run))} /run; exec {shlex.join(words)}"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["unshare", "-m", "sh", "-ec", script],
            cwd=CHECKOUT, env=ENVIRONMENT, stdout=output, stderr=output,
        ) as process,
    ):  # fmt: skip
        try:
            yield Watching(process, run, log)
        finally:
            process.kill()


def test_specs_follow_the_host(own_host: Callable[[str], FakeHost], tmp_path: Path) -> None:
    fake = own_host("550-lib64")
    with watching(fake, tmp_path) as watch:
        wait_until(lambda: {"0", "1"} <= watch.devices())
        gone = fake.root / "proc/driver/nvidia/gpus" / fake.kernel.gpus[1].pci_address
        gone.rename(tmp_path / "gpu")
        wait_until(lambda: "0" in watch.devices() and "1" not in watch.devices())
        assert "the host has changed: the GPUs [CDG-W001]" in watch.log()
        (tmp_path / "gpu").rename(gone)
        wait_until(lambda: "1" in watch.devices())
        version = fake.root / "proc/driver/nvidia/version"
        version.rename(tmp_path / "version")
        wait_until(lambda: not watch.devices())
        watch.process.send_signal(signal.SIGTERM)
        assert watch.process.wait(timeout=60) == 0


def test_the_process_has_no_library_and_no_file_of_the_driver(
    own_host: Callable[[str], FakeHost], tmp_path: Path
) -> None:
    """So the module can be unloaded, and the driver be replaced, while it runs."""
    fake = own_host("550-mig-mixed")  # NVML is asked for MIG devices
    with watching(fake, tmp_path) as watch:
        wait_until(lambda: "1:0" in watch.devices())
        process = Path("/proc") / str(watch.process.pid)
        assert str(fake.root) not in (process / "maps").read_text()

        def is_without_files() -> bool:
            """Whether none is open: a look at the host opens some for a moment."""
            files = []
            for link in (process / "fd").iterdir():
                with suppress(FileNotFoundError):
                    files.append(os.readlink(link))
            return not [file for file in files if str(fake.root) in file or "/dev/nvidia" in file]

        wait_until(is_without_files)
