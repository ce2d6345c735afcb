# SPDX-License-Identifier: Apache-2.0
"""Runs ``cdi-gen`` in a fork of the test's process, which has its modules loaded already.

The fork has its own environment, directory, streams and exit code, as a new process has.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from cdi_gen.__main__ import main
from cdi_gen.cli import COMMANDS

for _module in (*(f"cdi_gen.cli.{name}" for name in COMMANDS), "jsonschema", "tomlkit", "yaml"):
    import_module(_module)


def run(
    arguments: Sequence[str], environment: dict[str, str], directory: Path, patience: float
) -> tuple[int, str, str]:
    """The exit code, and what was written to standard output and standard error."""
    pipes = [os.pipe(), os.pipe()]
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads, of which pytest-xdist has some; the fork uses none of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _become([writing for _, writing in pipes], arguments, environment, directory)
    for _, writing in pipes:
        os.close(writing)
    try:
        texts = _read([reading for reading, _ in pipes], time.monotonic() + patience)
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        raise subprocess.TimeoutExpired(["cdi-gen", *arguments], patience) from None
    finally:
        _, status = os.waitpid(child, 0)
        for reading, _ in pipes:
            os.close(reading)
    out, err = (text.decode() for text in texts)
    return os.waitstatus_to_exitcode(status), out, err


def _read(descriptors: list[int], until: float) -> list[bytes]:
    """All that comes out of pipes until their other ends are closed."""
    texts = dict.fromkeys(descriptors, b"")
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(until - time.monotonic())
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                texts[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return [*texts.values()]


def _become(
    outputs: Sequence[int], arguments: Sequence[str], environment: dict[str, str], directory: Path
) -> NoReturn:
    """Be the program: what the test's process has open, set or imported makes no difference."""
    try:
        for number, descriptor in enumerate(outputs, start=1):
            os.dup2(descriptor, number)
        os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(  # noqa: SIM115
            2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
        )
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(directory)
        sys.argv = ["cdi-gen", *arguments]
        main()
    except BaseException:  # noqa: BLE001 - as an interpreter ends with one
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)
