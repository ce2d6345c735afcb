# SPDX-License-Identifier: Apache-2.0
"""Runs the process that asks the host, with a deadline."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import Any

from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.host import Where
from cdi_gen.kubernetes.probe.facts import Facts

SECONDS = 60
"""NVML takes up to 20 s to start on a host with eight GPUs and no persistence mode."""


class ProbeError(CdiGenError):
    """The host has no usable driver or GPU at this time, or NVML does not answer."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.ERROR, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.exit_code = exit_code


def start(where: Where, discovery: str | None = None) -> subprocess.Popen[str]:
    """Start the process that asks the host; `probe` waits for its answer.

    Args:
        where: the layout of the host.
        discovery: how the GPUs are found, see `cdi_gen.host.description.describe`, also those of a
            host for which there are no specs; None: as specs need them.

    Raises:
        ProbeError: there are no resources for a further process.
    """
    try:
        return _start(where._asdict() | ({} if discovery is None else {"discovery": discovery}))
    except OSError as error:
        raise ProbeError(
            f"the process that examines the host cannot be run: {error.strerror or error}",
            hint="look at the limits of processes, open files and memory of the container",
            code="CDG-N108",
        ) from error


def _start(request: dict[str, Any]) -> subprocess.Popen[str]:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(os.path.isabs, sys.path)))
    process = subprocess.Popen(
        [sys.executable, "-m", "cdi_gen.kubernetes.probe"],
        cwd="/",
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
    )
    assert process.stdin is not None  # noqa: S101
    # `probe` says why a process has ended that does not read.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(request))
        process.stdin.flush()
    return process


def probe(
    where: Where,
    seconds: float = SECONDS,
    started: subprocess.Popen[str] | None = None,
    discovery: str | None = None,
) -> Facts:
    """Return the facts of the host.

    Args:
        where: the layout of the host.
        seconds: the time until the process is ended.
        started: a process that `start` started; None: start one.
        discovery: see `start`.

    Raises:
        ProbeError: the host cannot be examined, for example because no driver is loaded.
    """
    process = started or start(where, discovery)
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        # A process inside a driver that hangs cannot be ended; it is left.
        threading.Thread(target=process.communicate, daemon=True).start()
        raise ProbeError(
            f"NVML has not answered for {seconds:.0f} s",
            hint="look at `dmesg` for messages of the driver (NVRM); a GPU may have to be reset",
            code="CDG-N107",
        ) from error
    except BaseException:
        process.kill()  # a signal ends this process
        raise
    try:
        return _facts(json.loads(output))
    except ProbeError:
        raise
    except Exception as error:
        # Also the answer of another version, after the files of this one were replaced.
        last_line = errors.strip().rpartition("\n")[2]
        raise ProbeError(
            f"the process that examines the host ended with status {process.returncode}: "
            f"{last_line or 'no message'}",
            code="CDG-N108",
        ) from error


def _facts(document: dict[str, Any]) -> Facts:
    """Return the facts of an answer.

    Raises:
        ProbeError: the answer is an error.
    """
    if "error" not in document:
        return Facts.of(document)
    fields = document["error"]
    raise ProbeError(
        fields["message"],
        ExitCode(fields["exit_code"]),
        hint=fields["hint"],
        code=fields["code"],
        subject=fields["subject"],
    )
