# SPDX-License-Identifier: Apache-2.0
"""Reads the kernel's log: the lines about GPUs, their drivers and the IOMMU."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cdi_gen.doctor.check import Unseen
from cdi_gen.host.roots import Root

KMSG = "/dev/kmsg"
RECORD_BYTES = 8192
"""The largest record of /dev/kmsg (CONSOLE_EXT_LOG_MAX)."""
MAX_LINES = 200_000

JOURNALCTL = ("journalctl", "-k", "-b", "-q", "--no-pager", "-o", "short-monotonic", "-n", "20000")

RELEVANT = re.compile(
    r"NVRM|nvidia|\bXid\b|nouveau|nova_core|vfio|iommu|DMAR|AMD-Vi|AER:|pciehp|Lockdown|"
    r"module verification|Loading of (unsigned )?module|is rejected|X\.509|"
    r"Key was rejected|PKCS#7|secureboot|Secure boot|disagrees about version|Unknown symbol|"
    r"nvlink|NVSwitch|SXid|Out of memory: Killed process|avc:  denied|apparmor=\"DENIED\"",
    re.IGNORECASE,
)
"""The lines that checks may need. Other lines of the log are no business of a report."""

_RECORD = re.compile(r"\d+,\d+,(\d+),[^;]*;(.*)")
_MONOTONIC = re.compile(r"\[ *(\d+\.\d+)\] \S+ [^:]*?: ?(.*)")


class LogLine(NamedTuple):
    """A line of the kernel's log."""

    seconds: float
    """Since the boot."""
    text: str


LOADING = "NVRM: loading NVIDIA UNIX"
"""The first words of the driver when its module is loaded."""


def since_loading(lines: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
    """Return the lines since the driver was loaded last; all if the log does not say when."""
    starts = [index for index, line in enumerate(lines) if LOADING in line.text]
    return lines[starts[-1] :] if starts else lines


def read(
    root: Root, run: Callable[..., str | None] | None, *, pattern: re.Pattern[str] = RELEVANT
) -> list[list[float | str]]:
    """Return ``[seconds, text]`` of each relevant line since the boot, oldest first.

    Args:
        root: the root of the host.
        run: runs a program of the host and returns its output; None: programs cannot be run.
        pattern: the lines that are relevant.

    Raises:
        Unseen: this process may read neither the kernel's buffer nor the journal.
    """
    try:
        records = _kmsg(root)
    except OSError as error:
        text = run(*JOURNALCTL) if run else None
        if not text:
            reason = f"the kernel's log cannot be read: {KMSG}: {error.strerror}"
            raise Unseen(reason) from error
        records = text.splitlines()
    lines: list[list[float | str]] = []
    for record in records:
        if (match := _RECORD.match(record)) and pattern.search(match[2]):
            lines.append([int(match[1]) / 1_000_000, match[2]])
        elif (match := _MONOTONIC.match(record)) and pattern.search(match[2]):
            lines.append([float(match[1]), match[2]])
    return lines


def _kmsg(root: Root) -> list[str]:
    """Return the records of the kernel's buffer.

    Raises:
        OSError: the buffer cannot be read.
    """
    # The device returns a record for each read, and does not block. A host in a directory has a
    # regular file.
    path = root.open_path(root.resolve(KMSG))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind == stat.S_IFREG:
            with os.fdopen(os.dup(descriptor), encoding="utf-8", errors="replace") as file:
                return file.read(MAX_LINES * 100).splitlines()
        if kind != stat.S_IFCHR:
            raise OSError(errno.EINVAL, "is no device", path)
        return [*_records(descriptor)]
    finally:
        os.close(descriptor)


def _records(descriptor: int) -> Iterator[str]:
    for _ in range(MAX_LINES):
        try:
            record = os.read(descriptor, RECORD_BYTES)
        except BlockingIOError:
            return
        except BrokenPipeError:
            continue  # overwritten in the meantime; the next read returns the oldest record
        if not record:
            return
        yield record.decode("utf-8", "replace").partition("\n")[0]
