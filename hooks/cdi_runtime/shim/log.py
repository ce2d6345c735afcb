# SPDX-License-Identifier: Apache-2.0
"""What the shim says, and where: stderr, the runtime's own log, the log of config.toml.

Engines show what a low-level runtime wrote last to the file of its `--log`: containerd and dockerd,
Podman through conmon. So a refusal is put there too, in the runtime's own words' form.
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


def failed(message: str, code: str, invocation: Invocation) -> None:
    """Say why there will be no container."""
    line = with_code(_one_line(message), code)
    _write(2, f"{RUNTIME}: {line}\n")
    log = invocation.log.removeprefix("file:")
    # crun also logs to syslog and journald, by such words.
    if log.startswith(("syslog:", "journald:")):
        return
    text = _json_line if invocation.log_format == "json" else _log_line
    _append(log, text("error", f"{RUNTIME}: {line}"))


class Journal:
    """The log file of config.toml, `debug` there; without one nothing is kept."""

    __slots__ = ("_least", "_path")

    def __init__(self, settings: Configuration) -> None:
        self._path = settings.debug
        level = settings.log_level.lower()
        self._least = SEVERITIES.index(level if level in SEVERITIES else "info")

    def tell(self, finding: Finding) -> None:
        """A line for a finding whose severity is at least the configured level."""
        if SEVERITIES.index(finding.severity) >= self._least:
            line = with_code(_one_line(finding.message), finding.code)
            _append(self._path, _log_line(finding.severity, line))


def _append(path: str, line: str) -> None:
    """Add a line to a log; that it cannot be kept is no reason to stop a container."""
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
    """No control characters, nothing but ASCII, an end."""
    if text.isascii() and text.isprintable():
        return text[:MAX_LINE]
    return ascii(text)[1:-1][:MAX_LINE]
