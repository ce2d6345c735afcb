# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench [ROW...]``: what cdi-gen costs, beside ``nvidia-ctk``.

See docs/benchmarks.md for what each row means.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import (
    bundled,
    containers,
    device_plugin,
    doctor,
    driver_tree,
    elf_readers,
    exposition,
    fleet,
    generating,
    hook_alone,
    many_containers,
    metrics,
    preferred_allocation,
    prestart,
    refreshing,
    shim,
    table,
    top,
    why,
)
from tests.bench.contest import Line
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.lab.cache import LabUnavailableError

ROWS: dict[str, Callable[[int], Iterator[Line]]] = {
    "generate": generating.generate,
    "minimum": generating.minimum,
    "refresh": refreshing.refresh,
    "doctor": doctor.doctor,
    "why": why.why,
    "elf": elf_readers.readers,
    "hook": hook_alone.hook,
    "start": containers.start,
    "tree": driver_tree.forms,
    "shim": shim.shim,
    "prestart": prestart.prestart,
    "bundle": bundled.bundle,
    "device-plugin": device_plugin.device_plugin,
    "compat": fleet.compat,
    "who": many_containers.who,
    "following": many_containers.following,
    "metrics": metrics.metrics,
    "exposition": exposition.exposition,
    "top": top.top,
    "preferred": preferred_allocation.preferred_allocation,
}


def main() -> int:
    """Print the table; with ``--strict``, return 1 unless every bar is clearly met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)} (default: all)")
    parser.add_argument("--runs", type=int, default=20, help="rounds that count (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every lap to a file")
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 unless every bar is clearly met"
    )
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; the rows are {', '.join(ROWS)}")
    facts = table.machine()
    print(", ".join(f"{name} {value}" for name, value in facts.items()), table.HEAD, sep="\n\n")
    lines: list[Line] = []
    for row in options.rows or ROWS:
        print(f"\n{row}")
        for line in _measured(row, options.runs):
            lines.append(line)
            print(table.as_text(line), flush=True)
    if options.json:
        options.json.write_text(json.dumps(table.as_json(lines, facts), indent=1), "utf-8")
    failed = [
        f"{line.case}: {bar.verdict}" for line in lines for bar in line.bars if bar.verdict != "met"
    ]
    print("\n" + ("\n".join(failed) or "all bars of these rows are met"))
    return 1 if failed and options.strict else 0


def _measured(row: str, runs: int) -> Iterator[Line]:
    """The lines of a row; no lines, and the reason printed, if this machine cannot run the row."""
    try:
        yield from ROWS[row](runs)
    except (DriverRootUnavailableError, LabUnavailableError) as error:
        print(f"{row}: left out: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
