# SPDX-License-Identifier: Apache-2.0
"""Writes docs/troubleshooting.md from the tests in tests/pains and the table of codes."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import tests.pains
from cdi_gen.findings import Explanation, explanations
from tests.pains import PAINS, Pain

HEAD = """# Troubleshooting

Search this page for the message that you see. The command explains it on your host; its output has
the files, versions and devices of your case, and a fix that can be pasted. `cdi-gen doctor` alone
examines the whole host. A test makes each of these faults happen and follows the printed advice;
where the hardware is simulated, the entry says so.

`make golden` generates this page from `tests/pains` and `specs/cdi_specs/findings.json`.
"""


def pains() -> list[Pain]:
    """Return the pains of all modules, by number and test."""
    for module in pkgutil.iter_modules(tests.pains.__path__):
        import_module(f"tests.pains.{module.name}")
    return [PAINS[key] for key in sorted(PAINS)]


def page() -> str:
    """Return the page in Markdown."""
    table = explanations()
    return "\n".join([HEAD, *(_entry(pain, table) for pain in pains())])


def _entry(pain: Pain, table: dict[str, Explanation]) -> str:
    lines = [f"## {pain.message}\n", f"    {pain.command}\n"]
    for code in pain.codes:
        entry = table[code]
        cause = entry.cause or entry.meaning
        lines.append(
            f"* [{code}](findings.md#{code.lower()}): {entry.title}. {cause} **Fix:** {entry.fix}"
        )
    simulated = ", on a simulated host" if pain.simulated else ""
    lines.append(f"\nNumber {pain.number}; tested by `{pain.test}`{simulated}.\n")
    return "\n".join(lines)
