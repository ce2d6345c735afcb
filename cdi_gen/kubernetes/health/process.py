# SPDX-License-Identifier: Apache-2.0
"""Runs the process that watches the GPUs, and starts it again if it ends or hangs."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from cdi_base.findings import Finding
from cdi_gen.inventory import Inventory
from cdi_gen.kubernetes.health.judge import Change, Check, Event, Judge, Watched
from cdi_gen.paths import base_name

SILENCE_SECONDS = 60.0
"""The process writes a line every five seconds, unless NVML does not answer."""

RESTART_SECONDS = 30.0

COMMAND = (sys.executable, "-m", "cdi_gen.kubernetes.health")


class HealthProcess:
    """Watches the GPUs of an inventory until `stop`.

    Args:
        inventory: the host.
        host_root: the path of the host's ``/`` for this process.
        judge: decides; it knows what happened before.
        changed: is called with each change, from a thread.
        report: prints a finding.
        command: the process; tests run another one.
    """

    def __init__(
        self,
        inventory: Inventory,
        host_root: str,
        judge: Judge,
        changed: Callable[[Change], None],
        report: Callable[[Finding], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._request = request(inventory, host_root)
        self._judge = judge
        self._changed = changed
        self._report = report
        self._command = command
        self._stopping = threading.Event()
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reported = ""
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        """Start watching; without NVML there is nothing to watch."""
        if self._request is not None:
            self._thread.start()

    def stop(self) -> None:
        """End the process soon."""
        self._stopping.set()
        self._lines.put(b"")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                reason = self._watch()
            except Exception as error:  # noqa: BLE001 - otherwise nothing would watch any more
                # Processes, threads or descriptors have run out, or a line is cut off.
                reason = f"{type(error).__name__}: {error}"
            if self._stopping.is_set():
                return
            if reason != self._reported:
                self._reported = reason
                self._report(
                    Finding(
                        "CDG-N206",
                        "warning",
                        f"the health of the GPUs is not watched: {reason}",
                        fix="Look for messages of the driver (NVRM) in `dmesg`.",
                    )
                )
            self._stopping.wait(RESTART_SECONDS)

    def _watch(self) -> str:
        """Run the process once; return why it ended."""
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(os.path.isabs, sys.path)))
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", env=environment
        )
        assert process.stdin is not None  # noqa: S101
        try:
            process.stdin.write(json.dumps(self._request).encode())
            process.stdin.close()
            return self._read(process)
        except BrokenPipeError:
            return "the process ended at once"
        finally:
            process.kill()
            # A process inside a driver that hangs cannot be ended; it is left.
            threading.Thread(target=process.wait, daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes]) -> str:
        # A new one: the thread that forwards may not have ended for a process that was left.
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lines = lines
        threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True).start()
        while not self._stopping.is_set():
            try:
                line = lines.get(timeout=SILENCE_SECONDS)
            except queue.Empty:
                return f"NVML has not answered for {SILENCE_SECONDS:.0f} s"
            heard = time.monotonic()
            if self._stopping.is_set():
                break
            if not line:
                return f"the process ended with status {process.wait(timeout=SILENCE_SECONDS)}"
            ((key, value),) = json.loads(line).items()
            if key == "error":
                return str(value)
            self._take(key, value, heard)
        return ""

    def _take(self, key: str, value: dict[str, Any], now: float) -> None:
        changes: list[Change] = []
        if key == "event":
            changes = self._judge.event(Event(**value), now)
        elif key == "check":
            self._reported = ""
            changes = self._judge.check(Check(**value), now)
        elif key == "unwatched":
            self._report(
                Finding(
                    "CDG-N206",
                    "warning",
                    f"errors of {value['gpu_uuid']} are not watched: {value['reason']}",
                    subject=value["gpu_uuid"],
                )
            )
        for change in changes:
            self._changed(change)


def _forward(stream: Any, lines: queue.SimpleQueue[bytes]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(b"")


def request(inventory: Inventory, host_root: str) -> dict[str, Any] | None:
    """Return the request to the process; None if the host has no NVML or no GPU with an address."""
    names = (lib.path for lib in inventory.libraries if lib.bits == 64)
    library = next((p for p in names if base_name(p).startswith("libnvidia-ml.so.")), None)
    gpus = {gpu.uuid: gpu.pci_address for gpu in inventory.gpus if gpu.uuid and gpu.pci_address}
    if library is None or not gpus:
        return None
    return {"library": host_root.rstrip("/") + library, "gpus": gpus}


def watched(inventory: Inventory) -> list[Watched]:
    """Return the devices of an inventory whose health counts."""
    uuids = {gpu.index: gpu.uuid for gpu in inventory.gpus if gpu.uuid}
    devices = [Watched(uuid=uuid, gpu_uuid=uuid) for uuid in uuids.values()]
    devices += [
        Watched(
            uuid=mig.uuid,
            gpu_uuid=uuids[mig.gpu_index],
            gpu_instance=mig.gpu_instance,
            compute_instance=mig.compute_instance,
        )
        for mig in inventory.mig_devices
        if mig.uuid and mig.gpu_index in uuids
    ]
    return devices
