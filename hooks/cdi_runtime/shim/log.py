# SPDX-License-Identifier: Apache-2.0
"""Writes errors and log lines: to stderr, the low-level runtime's log, the log of config.toml.

Engines show the last line that a low-level runtime wrote to the file of its `--log`: containerd and
dockerd directly, Podman through conmon. So an error is also written there, in the runtime's format.
"""

from __future__ import annotations

import os
import time

from cdi_base import RUNTIME
from cdi_base.errors import with_code
from cdi_base.findings import SEVERITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_base.findings import Finding
    from cdi_runtime.config_toml.settings import Configuration
    from cdi_runtime.shim.command_line import Invocation

MAX_LINE = 4096


def report_error(message: str, code: str, invocation: Invocation) -> None:
    """Write the reason why no container is created to stderr and to the low-level runtime's log."""
    line = with_code(_one_line(message), code)
    _write(2, f"{RUNTIME}: {line}\n")
    path = invocation.log.removeprefix("file:")
    # With these prefixes crun logs to syslog or to journald.
    if path.startswith(("syslog:", "journald:")):
        return
    formatted = _json_line if invocation.log_format == "json" else _log_line
    _append(path, formatted("error", f"{RUNTIME}: {line}"))


class LogFile:
    """The log file that `debug` in config.toml names; without it nothing is logged."""

    __slots__ = ("_least_severity", "_path")

    def __init__(self, settings: Configuration) -> None:
        self._path = settings.debug
        level = settings.log_level.lower()
        self._least_severity = SEVERITIES.index(level if level in SEVERITIES else "info")

    def write(self, finding: Finding) -> None:
        """Add a line for a finding whose severity is at least the configured level."""
        if SEVERITIES.index(finding.severity) >= self._least_severity:
            line = with_code(_one_line(finding.message), finding.code)
            _append(self._path, _log_line(finding.severity, line))


def _append(path: str, line: str) -> None:
    """Add a line to a log file; a log that cannot be written to does not stop the container."""
    if not path.startswith("/") or path == "/dev/null":
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_NOCTTY, 0o644)
    except (OSError, ValueError):
        return
    _write(descriptor, line)
    os.close(descriptor)


def _write(descriptor: int, line: str) -> None:
    try:
        os.write(descriptor, line.encode("utf-8", "backslashreplace"))
    except OSError:
        return


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _json_line(level: str, message: str) -> str:
    return f'{{"level":"{level}","msg":{_quoted(message)},"time":"{_now()}"}}\n'


def _log_line(level: str, message: str) -> str:
    return f'time="{_now()}" level={level} msg={_quoted(message)}\n'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _one_line(text: str) -> str:
    """Return a text without control characters, in ASCII, of limited length."""
    if text.isascii() and text.isprintable():
        return text[:MAX_LINE]
    return ascii(text)[1:-1][:MAX_LINE]
