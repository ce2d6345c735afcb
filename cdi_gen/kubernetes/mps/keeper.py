# SPDX-License-Identifier: Apache-2.0
"""Keeps one control daemon running: starts or adopts it, watches it, and starts it again."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable

from cdi_base.files import read_beginning
from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.mps.directories import MpsRoot
from cdi_gen.kubernetes.mps.errors import MpsError, SilentDaemonError
from cdi_gen.kubernetes.mps.program import CONTROL, MULTIUSER, ControlProgram
from cdi_gen.kubernetes.reports import pause
from cdi_gen.kubernetes.resources.mps import MpsDaemon, memory_limits

START_SECONDS = 10.0
"""The time until a new daemon answers; it takes some 0.1 s."""

ASK_INTERVAL = 60.0
"""Seconds between two questions whether a daemon answers. Its end is noticed at once."""

LOOK_INTERVAL = 5.0
"""Seconds between two looks at the socket of a daemon in another PID namespace."""

LOG_INTERVAL = 1.0
"""Seconds between two looks at the size of the log. A client that connects and fails in a loop has
the daemon write 3 MB each second; a look takes 20 microseconds."""

HANG_SECONDS = 60.0
"""The time without an answer after which a daemon is killed and started again."""

STABLE_SECONDS = 60.0
"""A daemon that ran so long is started again without a pause."""

MAX_COMMAND = 15
"""Characters that the kernel keeps of the name of a process."""

Changed = Callable[[MpsDaemon, bool, Finding], None]
"""Is told whether a daemon serves, and the finding that says so, or why it does not."""


class Keeper:
    """Keeps a daemon running until `stop`, which leaves the daemon as it is.

    Args:
        daemon: the daemon.
        program: the control program.
        root: the directory of all daemons.
        changed: is called from a thread.
        report: prints a finding.
        starts: whether the daemon is started; else that of another process is waited for.
    """

    def __init__(
        self,
        daemon: MpsDaemon,
        program: ControlProgram,
        root: MpsRoot,
        *,
        changed: Changed,
        report: Callable[[Finding], None],
        starts: bool,
    ) -> None:
        self.daemon = daemon
        self._program = program
        self._root = root
        self._changed = changed
        self._report = report
        self._starts = starts
        self._environment = root.environment(daemon.name, daemon.uuids)
        self._silent_since: float | None = None
        self._stopping = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name=f"mps {daemon.name}", daemon=True)

    def start(self) -> None:
        """Start to keep the daemon."""
        self._thread.start()

    def stop(self) -> None:
        """Keep the daemon no longer; it goes on."""
        if not self._stopping.is_set():
            # In this order: the thread closes the descriptor when it sees that it has to stop.
            os.eventfd_write(self._wake, 1)
            self._stopping.set()

    def join(self, seconds: float) -> None:
        """Wait until nothing is done any more."""
        self._thread.join(seconds)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begin = time.monotonic()
            try:
                self._serve()
            except CdiGenError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - otherwise nothing would keep the daemon
                self._failed(MpsError(f"{type(error).__name__}: {error}"))
            if time.monotonic() - begin >= STABLE_SECONDS:
                failures = 0
            else:
                self._stopping.wait(pause(failures))
                failures += 1
        os.close(self._wake)

    def _serve(self) -> None:
        """Have the daemon serve until it fails, or until `stop`.

        Raises:
            MpsError: the reason why it does not serve.
        """
        process = self._adopted()
        verb = "adopted" if process else "started"
        if process is None and not self._starts:
            raise SilentDaemonError(
                "its daemon does not run", hint="run `cdi-gen kubernetes mps-control-daemon`"
            )
        self._root.make(self.daemon)
        if process is None:
            process = self._started()
        try:
            self._program.limit(self._environment, *limits(self.daemon))
            self._root.publish(self.daemon)
            self._serving(verb)
            self._watch(process)
        except SilentDaemonError as error:
            if process.has_ended():
                words = self._root.log_end(self.daemon)
                raise SilentDaemonError(f"the daemon ended: {words or 'no message'}") from error
            if self._starts and self._silent_seconds() >= HANG_SECONDS:
                process.kill()
            raise
        finally:
            process.close()

    def _silent_seconds(self) -> float:
        """Return how long the daemon has not answered, from the first call on."""
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        return now - self._silent_since

    def _adopted(self) -> _Process | None:
        """Return the daemon that runs already; None if there is none."""
        try:
            return _Process(self._root.process(self.daemon.name))
        except SilentDaemonError:
            return None

    def _started(self) -> _Process:
        """Start the daemon; without the option for all users where the program lacks it."""
        process = self._spawn((MULTIUSER,))
        if self._listens(process):
            return process
        if process.has_ended():
            process.close()
            process = self._spawn(())
            if self._listens(process):
                self._report(_one_user(self._program))
                return process
        words = self._root.log_end(self.daemon)
        ended = process.has_ended()
        process.kill()
        process.close()
        raise SilentDaemonError(
            f"the daemon ended at once: {words or 'no message'}"
            if ended
            else f"the daemon does not listen after {START_SECONDS:.0f} s"
        )

    def _spawn(self, options: tuple[str, ...]) -> _Process:
        self._root.shorten_log(self.daemon.name)
        log = self._root.open_log(self.daemon)
        try:
            return _Process(self._program.start(self._environment, options, log), is_child=True)
        finally:
            os.close(log)

    def _listens(self, process: _Process) -> bool:
        """Wait until a new daemon listens on its socket; return whether it does."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and not self._stopping.is_set():
            if process.has_ended():
                return False
            try:
                self._root.process(self.daemon.name)
            except SilentDaemonError:
                process.wait(0.02, self._wake)
            else:
                return True
        return False

    def _watch(self, process: _Process) -> None:
        """Return at `stop`.

        Raises:
            SilentDaemonError: the daemon ended, or does not answer.
        """
        asked = looked = time.monotonic()
        interval = ASK_INTERVAL if process.is_watched else LOOK_INTERVAL
        while True:
            process.wait(min(LOG_INTERVAL, interval), self._wake)
            if self._stopping.is_set():
                return
            self._root.shorten_log(self.daemon.name)
            now = time.monotonic()
            if now - looked < interval and not process.has_ended():
                continue
            looked = now
            self._root.process(self.daemon.name)
            if not process.is_watched and now - asked < ASK_INTERVAL:
                continue
            asked = now
            self._program.ask(self._environment, "get_default_active_thread_percentage")

    def _serving(self, verb: str) -> None:
        self._silent_since = None
        gpus = ", ".join(self.daemon.uuids)
        share = f"{self.daemon.thread_percentage} % of the threads"
        limits = {f"{limit} MiB" for _, limit in memory_limits(self.daemon.devices)}
        memory = " or ".join(sorted(limits)) or "no memory limit"
        message = f"the MPS daemon of {gpus} {verb}: {share} and {memory} for each client"
        finding = Finding("CDG-N223", "info", message, subject=self.daemon.name)
        self._changed(self.daemon, True, finding)

    def _failed(self, error: CdiGenError) -> None:
        message = f"{', '.join(self.daemon.uuids)} cannot be shared by MPS: {error.message}"
        name = self.daemon.name
        finding = Finding(error.code, "error", message, subject=name, fix=error.hint or "")
        self._changed(self.daemon, False, finding)


class _Process:
    """The process of a daemon.

    Args:
        pid: the id; 0: it is in another PID namespace, and cannot be watched.
        is_child: whether this process has started it.
    """

    def __init__(self, pid: int, *, is_child: bool = False) -> None:
        self._pid = pid
        self._is_child = is_child
        self._descriptor: int | None = None
        if pid:
            try:
                self._descriptor = os.pidfd_open(pid)
            except ProcessLookupError as error:
                raise SilentDaemonError("the daemon ended") from error

    @property
    def is_watched(self) -> bool:
        """Whether the end of the process is noticed at once."""
        return self._descriptor is not None

    def wait(self, seconds: float, wake: int) -> None:
        """Wait until the process ends or ``wake`` is readable, for so many seconds at most."""
        ready = select.poll()
        ready.register(wake, select.POLLIN)
        if self._descriptor is not None:
            ready.register(self._descriptor, select.POLLIN)
        ready.poll(seconds * 1000)

    def has_ended(self) -> bool:
        """Whether the process is known to have ended."""
        if self._descriptor is None:
            return False
        ready = select.poll()
        ready.register(self._descriptor, select.POLLIN)
        return bool(ready.poll(0))

    def kill(self) -> None:
        """Kill the process, if it is a daemon.

        The id of a socket's process is that of the process that made it. If that has passed the
        socket on and ended, another process may have its id.
        """
        if self._descriptor is not None and (self._is_child or self._is_daemon()):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            self.wait(5.0, self._descriptor)

    def _is_daemon(self) -> bool:
        """Whether it is the control program. The descriptor is older than this look."""
        try:
            name = read_beginning(f"/proc/{self._pid}/comm", 64).decode("utf-8", "replace")
        except OSError:
            return False
        return name.rstrip("\n") == CONTROL[:MAX_COMMAND]

    def close(self) -> None:
        """Watch the process no longer; reap it if it is a child that has ended."""
        if self._descriptor is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG)
            os.close(self._descriptor)


def limits(daemon: MpsDaemon) -> list[str]:
    """Return the commands that set the limits of a daemon's clients."""
    commands = [f"set_default_active_thread_percentage {daemon.thread_percentage}"]
    for number, limit in memory_limits(daemon.devices):
        commands.append(f"set_default_device_pinned_mem_limit {number} {limit}M")
    return commands


def _one_user(program: ControlProgram) -> Finding:
    return Finding(
        "CDG-N224",
        "warning",
        "containers of different users use a GPU that is shared by MPS one after the other: "
        f"{program.path} has no option {MULTIUSER}",
        subject=program.path,
        fix="Run the containers of these pods as one user, or install driver 580 or newer.",
    )
