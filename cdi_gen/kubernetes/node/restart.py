# SPDX-License-Identifier: Apache-2.0
"""Has the engine read its configuration again, and waits until it answers.

The GPU Operator's contract: SIGHUP to the process that serves the engine's socket, or systemd of
the host. containerd has no handler for SIGHUP: it ends, and its supervisor starts it again. dockerd
reads its file again.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.node.host_process import HostView, in_host
from cdi_gen.kubernetes.node.hosts import Distribution
from cdi_gen.paths import base_name, parent

TRIES, PAUSE = 6, 5.0
"""As NVIDIA's toolkit: an engine may just be starting."""
READY_SECONDS = 60.0
READY_AT_THE_END_SECONDS = 10.0
"""After the undo; kubelet kills the pod soon, and other steps follow."""
SAME_PROCESS_SECONDS = 10.0
"""After this time an engine that answers counts as restarted even if its process is the same."""
SYSTEMCTL_SECONDS = 120

_CREDENTIALS = struct.Struct("3i")
_REQUESTS = {"docker": b"GET /info HTTP/1.0\r\n\r\n"}
"""What makes an engine send something; containerd sends the settings of HTTP/2 by itself."""

Sleep = Callable[[float], object]


class RestartError(CdiGenError):
    """The engine cannot be restarted, or does not answer."""

    code = "CDG-N406"


def serving_process(path: str, engine: str) -> int:
    """Return the process that serves a socket.

    The credentials of a message are used where one comes: those of the socket itself are systemd's,
    if systemd opened the socket.

    Raises:
        OSError: nobody serves the socket.
        RestartError: the process is not visible here.
    """
    directory = os.open(parent(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PAUSE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            # The path of a socket has 107 bytes at most.
            client.connect(f"/proc/self/fd/{directory}/{base_name(path)}")
            if engine in _REQUESTS:
                client.sendall(_REQUESTS[engine])
            process = _sender(client)
            if process is None:
                size = _CREDENTIALS.size
                data = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
                process = _CREDENTIALS.unpack(data)[0]
    finally:
        os.close(directory)
    if process in {0, 1, os.getpid()}:
        raise RestartError(
            f"the process that serves {path} is not visible in this container",
            hint="set hostPID: true, or restart by systemd (RUNTIME_RESTART_MODE=systemd)",
            subject=path,
        )
    return int(process)


def _sender(client: socket.socket) -> int | None:
    """Return the process that sends the first message; None if none comes in time."""
    with suppress(TimeoutError):
        _, ancillary, _, _ = client.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))
        for level, kind, data in ancillary:
            is_credentials = level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS
            if is_credentials and len(data) >= _CREDENTIALS.size:
                return int(_CREDENTIALS.unpack_from(data)[0])
    return None


def by_signal(path: str, engine: str, sleep: Sleep = time.sleep) -> int:
    """Send SIGHUP to the process that serves a socket; return the process.

    Raises:
        RestartError: nobody serves the socket, or the process cannot be signalled.
    """
    for attempt in range(TRIES):
        try:
            process = serving_process(path, engine)
            os.kill(process, signal.SIGHUP)
        except RestartError:  # noqa: PERF203
            if attempt == TRIES - 1:
                raise
            sleep(PAUSE)
        except OSError as error:
            if attempt == TRIES - 1:
                raise RestartError(
                    f"{engine} at {path} cannot be signalled: {error.strerror}",
                    hint="check --socket (RUNTIME_SOCKET), or restart the engine by hand",
                    subject=path,
                ) from error
            sleep(PAUSE)
        else:
            return process
    raise AssertionError


def by_systemd(distribution: Distribution, view: HostView) -> None:
    """Restart the unit of the engine.

    Raises:
        RestartError: systemd does not restart it.
    """
    in_host(view, lambda: _systemctl(distribution.units))


def _systemctl(units: tuple[str, ...]) -> None:
    # The host's root may be a chroot for us, in which systemctl does nothing unless it is told so.
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_IGNORE_CHROOT": "1"}
    active = [
        unit
        for unit in units
        if _run(["systemctl", "is-active", "--quiet", unit], environment).returncode == 0
    ]
    unit = (active or list(units))[0]
    result = _run(["systemctl", "restart", unit], environment)
    if result.returncode != 0:
        reason = result.stderr.decode("utf-8", "replace").strip()[-500:]
        raise RestartError(
            f"systemctl restart {unit} failed: {reason or result.returncode}",
            hint="see: journalctl -u " + unit,
            subject=unit,
        )


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, env=environment, check=False, capture_output=True, timeout=SYSTEMCTL_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RestartError(
            f"{' '.join(command)}: {getattr(error, 'strerror', None) or error}",
            hint="the host has no systemd: RUNTIME_RESTART_MODE=signal or none",
        ) from error


def wait_until_ready(
    path: str,
    engine: str,
    before: int | None,
    seconds: Callable[[], float] = lambda: READY_SECONDS,
    sleep: Sleep = time.sleep,
) -> None:
    """Wait until the engine answers at its socket.

    Args:
        path: of the socket.
        engine: the name of the engine.
        before: the process that served the socket before; None if that does not matter.
        seconds: returns how long to wait in all; it is called again and again.
        sleep: waits.

    Raises:
        RestartError: the engine does not answer in time.
    """
    start = time.monotonic()
    while True:
        passed = time.monotonic() - start
        # A process that has just ended is not visible, as one of another PID namespace.
        with suppress(OSError, RestartError):
            is_another = serving_process(path, engine) != before
            if is_another or engine == "docker" or passed > SAME_PROCESS_SECONDS:
                return
        if passed > seconds():
            raise RestartError(
                f"{engine} does not answer at {path} within {passed:.0f} s",
                hint="look at its log: journalctl -u " + engine,
                code="CDG-N407",
                subject=path,
            )
        sleep(0.2)
