# SPDX-License-Identifier: Apache-2.0
"""Samples are taken in a thread, and shown until the user quits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cdi_gen.top.glyphs import UNICODE
from cdi_gen.top.history import LENGTH, History
from cdi_gen.top.lines import Line, plain
from cdi_gen.top.loop import Loop
from cdi_gen.top.occupants import occupants
from cdi_gen.top.sample import Sample
from cdi_gen.top.sampler import Sampler
from cdi_gen.top.view import View
from tests.unit.metrics import snapshots

PATIENCE = 15


class Keyboard:
    """A display that presses keys, each when the screen has the text before it."""

    def __init__(self, *steps: tuple[str, str]) -> None:
        self.has_ended = False
        self.screens: list[str] = []
        self._steps = list(steps)
        self._woken = threading.Event()

    def size(self) -> tuple[int, int]:
        return 100, 24

    def draw(self, lines: Sequence[Line]) -> None:
        self.screens.append("\n".join(map(plain, lines)))

    def wake(self) -> None:
        self._woken.set()

    def keys(self, seconds: float) -> list[str]:
        assert len(self.screens) < 200, self.screens[-1]
        text, key = self._steps[0]
        if text in self.screens[-1]:
            self._steps.pop(0)
            return [key]
        self._woken.wait(0.1)
        self._woken.clear()
        return []


class Passes:
    """Takes samples, until they fail."""

    def __init__(self, fails_after: int = 1 << 30) -> None:
        self.count = 0
        self.fails_after = fails_after
        self.go_on = threading.Event()
        self.go_on.set()

    def take(self) -> Sample:
        self.count += 1
        self.go_on.wait(PATIENCE)
        if self.count > self.fails_after:
            raise OSError("out of luck")
        return Sample(snapshot=snapshots.eight())

    def wait_for(self, count: int) -> None:
        """Wait until so many passes were made."""
        end = time.monotonic() + PATIENCE
        while self.count < count:
            assert time.monotonic() < end
            time.sleep(0.01)


@contextmanager
def sampling(passes: Passes, display: Keyboard, interval: float) -> Iterator[Sampler]:
    sampler = Sampler(passes.take, interval, display.wake)
    try:
        yield sampler
    finally:
        passes.go_on.set()
        sampler.close(PATIENCE)


def test_samples_are_shown_until_q() -> None:
    passes, display = Passes(), Keyboard(("job-1", "N"), ("CONTAINER↑", "q"))
    with sampling(passes, display, 0.01) as sampler:
        Loop(display, sampler, View(interval=0.01), UNICODE, host="node7").run()
    assert "measuring" in display.screens[0] or "job-1" in display.screens[0]
    assert "node7" in display.screens[-1]


def test_a_pass_that_hangs_does_not_keep_keys_waiting() -> None:
    passes, display = (
        Passes(),
        Keyboard(("measuring", "?"), ("any key: back", "x"), ("measuring", "q")),
    )
    passes.go_on.clear()
    with sampling(passes, display, 0.01) as sampler:
        Loop(display, sampler, View(), UNICODE).run()
        assert passes.count == 1


def test_a_pass_that_fails_leaves_the_last_sample_with_its_error() -> None:
    passes = Passes(fails_after=1)
    display = Keyboard(("job-1", "f5"), ("out of luck", "q"))
    with sampling(passes, display, 0.01) as sampler:
        Loop(display, sampler, View(interval=0.01), UNICODE).run()
    assert "job-1" in display.screens[-1]


def test_a_pause_ends_with_a_pass_at_once() -> None:
    passes, display = Passes(), Keyboard(("job-1", "p"), ("paused", "p"), ("every", "q"))
    with sampling(passes, display, 3600) as sampler:
        Loop(display, sampler, View(interval=3600), UNICODE).run()
        sampler.configure(0.01, is_paused=True)
        sampler.configure(0.01, is_paused=False)
        passes.wait_for(3)


def test_a_history_is_of_what_is_there() -> None:
    history = History()
    sample = Sample(snapshot=snapshots.eight())
    for _ in range(LENGTH + 5):
        history.add(sample, occupants(sample))
    assert history.of_device("0") == (0.57,) * LENGTH
    assert history.of_device("4")[-1] == 0
    lazy = next(user for user in occupants(sample) if user.name == "lazy")
    assert history.of_use(lazy, "4")[-1] == 0
    history.add(Sample(snapshot=snapshots.idle()), ())
    assert history.of_device("1") == ()
    assert history.of_use(lazy, "4") == ()
