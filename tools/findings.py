# SPDX-License-Identifier: Apache-2.0
"""Writes docs/findings.md from the table of codes."""

from __future__ import annotations

import sys
from pathlib import Path

from cdi_gen.findings import Explanation, areas, explanations

HEAD = """# Findings

Everything that cdi-gen refuses, leaves out, reports as missing or warns of has a code, which is at
the end of the message:

    cdi-gen: error: no NVIDIA driver is loaded on this host (…) [CDG-H001]

`cdi-gen explain CDG-H001` prints what this page says about a code. With `--log-format json` a
message has the code in its field `code`. A code keeps its meaning in all versions, so scripts can
use it where an exit code is too coarse; the wording of messages may change. The number of a
removed code is never used again.

**error**: the work was not done. **warning**: the work was done, with a problem. **info**: good to
know. **debug**: details for debugging. The severity below is the usual one.

`make golden` generates this page from `specs/cdi_specs/findings.json`.
"""


def page() -> str:
    """Return the page in Markdown."""
    table = explanations().values()
    lines = [HEAD]
    for letter, title in areas().items():
        lines.append(f"## {letter}: {title}\n")
        lines += [_entry(entry) for entry in table if entry.area == letter]
    return "\n".join(lines)


def _entry(entry: Explanation) -> str:
    cause = f"Usual cause: {entry.cause}\n" if entry.cause else ""
    return (
        f"### {entry.code}\n\n**{entry.title}** ({entry.severity})\n\n"
        f"{entry.meaning}\n{cause}\nWhat to do: {entry.fix}\n"
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
