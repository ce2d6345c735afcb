# SPDX-License-Identifier: Apache-2.0
"""Starts and ends containers beside the service, and notes which of them its scrapes show.

    churn_probe.py COUNT BUNDLE...

Each container of crun lives from 0 to `LONGEST` seconds. Runs in the lab, with the standard library
only. The answer is a line of JSON: the lives of the containers, when each was in a scrape, and how
long after the last end a scrape had none.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

PROBE = Path(__file__)
LONGEST = 4.0
AT_ONCE = 30
PAUSE = 0.2
PATIENCE = 60
SAMPLE = re.compile(rb'^cdi_gen_container_info\{[^}]*container_id="([^"]+)"', re.MULTILINE)


class Scraper(threading.Thread):
    """Notes when each container was in a scrape."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, list[float]] = {}
        self.count = 0
        self.slowest = 0.0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            self.look()
            self.stopping.wait(PAUSE)

    def look(self) -> set[str]:
        """Scrape once."""
        before = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", 9400, timeout=30)
        connection.request("GET", "/metrics")
        names = {name.decode() for name in SAMPLE.findall(connection.getresponse().read())}
        connection.close()
        now = time.monotonic()
        self.slowest = max(self.slowest, now - before)
        self.count += 1
        for name in names:
            self.shown.setdefault(name, [now, now])[1] = now
        return names


def crun(*words: str) -> None:
    """Run crun."""
    quiet = subprocess.DEVNULL
    subprocess.run(["crun", *words], check=True, stdin=quiet, stdout=quiet, stderr=quiet)


def main() -> None:
    """Start and end containers."""
    count, bundles = int(sys.argv[1]), sys.argv[2:]
    generator = random.Random(1)
    scraper = Scraper()
    scraper.start()
    lives: dict[str, list[float]] = {}
    ends: dict[str, float] = {}
    while len(lives) < count or ends:
        now = time.monotonic()
        for name in [name for name, end in ends.items() if end <= now]:
            # It is alive until here.
            lives[name].append(time.monotonic())
            crun("delete", "--force", name)
            del ends[name]
        if len(lives) < count and len(ends) < AT_ONCE:
            name = f"churn-{len(lives)}"
            crun("run", "--detach", "--bundle", bundles[len(lives) % len(bundles)], name)
            lives[name] = [time.monotonic()]
            ends[name] = lives[name][0] + generator.uniform(0, LONGEST)
        else:
            time.sleep(0.01)
    ended = time.monotonic()
    scraper.stopping.set()
    scraper.join()
    while scraper.look() & lives.keys():
        if time.monotonic() > ended + PATIENCE:
            break
        time.sleep(PAUSE)
    left = sorted(scraper.look() & lives.keys())
    answer = {"lives": lives, "shown": scraper.shown, "left": left, "scrapes": scraper.count}
    print(
        json.dumps({**answer, "slowest": scraper.slowest, "gone_after": time.monotonic() - ended})
    )


if __name__ == "__main__":
    main()
