# SPDX-License-Identifier: Apache-2.0
"""A host whose containers use its GPUs, and ``cdi-gen top`` on it in a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.cli.program import CHECKOUT
from tests.fakehost.hosts import FakeHost
from tests.top.busy_host import BusyHost
from tests.top.screen import Session

TERM = "screen-256color"
"""pyte does not know all sequences of xterm that curses uses to move lines."""


@pytest.fixture
def busy(own_host: Callable[[str], FakeHost]) -> BusyHost:
    return BusyHost(own_host("550-8gpu"))


PROGRAM = (sys.executable, "-m", "cdi_gen", "top")
Start = Callable[..., Session]


@pytest.fixture
def start(busy: BusyHost) -> Iterator[Start]:
    """Start ``cdi-gen top`` on the host, or a shell, and wait for its first text."""
    with ExitStack() as sessions:

        def started(
            *options: str,
            columns: int = 120,
            rows: int = 30,
            until: str = "trainer",
            shell: tuple[str, ...] = (),
            **variables: str,
        ) -> Session:
            environment = {"PATH": os.environ["PATH"], "TERM": TERM, "LANG": "C.UTF-8"} | variables
            command = shell or (*PROGRAM, "--host-root", str(busy.root), "-n", "0.2", *options)
            session = sessions.enter_context(
                Session(
                    command, columns=columns, rows=rows, environment=environment, cwd=str(CHECKOUT)
                )
            )
            session.wait_for(until)
            return session

        yield started
