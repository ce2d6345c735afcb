# SPDX-License-Identifier: Apache-2.0
"""Runs the process of an examination, with a deadline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from cdi_gen.errors import CdiGenError

COMMAND = (sys.executable, "-m", "cdi_gen.metrics.own")
WAIT_SECONDS = 1.0
"""A process that is killed ends in this time, if it is not in a driver that hangs."""

GRACE_SECONDS = 5
"""The process ends itself so long after its deadline, if the service was killed."""


class ExaminationError(CdiGenError):
    """An examination has no result."""

    code = "CDG-O250"


class Processes:
    """Runs one process at a time, and ends it when `close` is called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._left: list[subprocess.Popen[bytes]] = []
        """Killed ones that have not ended: they are in a driver that hangs."""
        self._is_closed = False

    def run(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the JSON form of the state.

        Raises:
            ExaminationError: there is none.
        """
        self._left = [process for process in self._left if process.poll() is None]
        if self._left:
            pid = self._left[0].pid
            raise ExaminationError(f"the process {pid} of an earlier one hangs in the kernel")
        content = json.dumps({**request, "seconds": int(seconds) + GRACE_SECONDS}).encode()
        try:
            process = self._start()
        except OSError as error:
            raise ExaminationError(f"no process: {error.strerror or error}") from error
        try:
            output, errors = process.communicate(content, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise ExaminationError(f"no result after {seconds:g} s") from error
        finally:
            self._end(process)
        return _state(output, errors, process.returncode)

    def _start(self) -> subprocess.Popen[bytes]:
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(os.path.isabs, sys.path)))
        with self._lock:
            if self._is_closed:
                raise ExaminationError("the service ends")
            # In a session of its own: Ctrl-C is for the service, which ends the process.
            self._running = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
            return self._running

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running = None
        if process.returncode is not None:
            return
        _kill(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        try:
            process.wait(timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._left.append(process)

    def close(self) -> None:
        """End the process that runs, and start no other."""
        with self._lock:
            self._is_closed = True
            if self._running is not None:
                _kill(self._running)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and the programs that it runs; doctor runs some of the host."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _state(output: bytes, errors: bytes, status: int) -> dict[str, Any]:
    """Return the state of an answer.

    Raises:
        ExaminationError: the answer is an error, or none.
    """
    try:
        document = json.loads(output)
        if "error" in document:
            error = document["error"]
            raise ExaminationError(error["message"], code=error["code"], hint=error.get("hint"))
        return dict(document["state"])
    except (ValueError, KeyError, TypeError) as error:
        # Also the answer of another version, after the files of this one were replaced.
        lines = errors.decode("utf-8", "backslashreplace").strip().splitlines()
        reason = f": {lines[-1]}" if lines else ""
        raise ExaminationError(f"its process ended with status {status}{reason}") from error
