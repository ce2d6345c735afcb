# SPDX-License-Identifier: Apache-2.0
"""Runs in a lab: lays out each case, has an engine start a container, and asks `cdi_gen.why`.

    python3 -m tests.engine.matrix.why_in_lab '{"engine": "podman", "user": 0, …}'

It prints a JSON object for each case.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import Any

from cdi_gen.why import readers, user
from cdi_gen.why.answer import Answer, answers
from cdi_gen.why.spec_files import Host
from tests.unit.why import broken_specs
from tests.unit.why.broken_specs import CASES, VARIABLE, Case

UNRESOLVED = re.compile(
    r"unresolvable CDI devices|stat example\.com|is not an absolute path|not a valid device"
    r"|no such file or directory: example\.com|could not select device driver"
)
SECONDS = 20
"""The time that a daemon has to notice a change of a spec directory."""


def outcome(ended: subprocess.CompletedProcess[str]) -> str:
    """What came of a container, in the words of `cdi_gen.why.answer.Outcome`."""
    printed = ended.stdout + ended.stderr
    name, value = VARIABLE.split("=")
    if f"env\t{name}\tset\t{value}\n" in printed:
        return "works"
    if UNRESOLVED.search(printed) or f"env\t{name}\tunset" in printed:
        return "unresolved"
    return "fails"


def expected(answer: Answer) -> str:
    """The outcome that an engine must have; a wrong device is no matter for the engine."""
    return "works" if answer.outcome == "broken" else answer.outcome


def ask(case: Case, engine: str, uid: int) -> Answer:
    """The answer for the engine that is installed here."""
    (reader,) = (
        reader
        for reader in INSTALLED[uid]
        if reader.engine == engine and reader.user.uid == uid and reader.rootless == bool(uid)
    )
    (answer,) = answers([case.requested], [reader], Host(), lambda: None)
    return answer


def run(plan: dict[str, Any], case: Case) -> subprocess.CompletedProcess[str]:
    """Start a container with the device of a case."""
    words = [word.replace("NAME", case.requested) for word in plan["words"]]
    return subprocess.run(
        words,
        user=plan["user"],
        group=plan["user"],
        extra_groups=[],
        env={**os.environ, **plan["env"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )


def compare(plan: dict[str, Any], case: Case) -> dict[str, Any]:
    """Lay out a case, and give both outcomes."""
    broken_specs.lay_out(case)
    answer = ask(case, plan["engine"], plan["user"])
    deadline = time.monotonic() + (SECONDS if plan["daemon"] else 0)
    while True:
        ended = run(plan, case)
        if outcome(ended) == expected(answer) or time.monotonic() >= deadline:
            break
    return {
        "id": case.id,
        "engine": outcome(ended),
        "why": expected(answer),
        "printed": (ended.stdout + ended.stderr)[-600:],
        "findings": [finding.fields() for finding in answer.findings],
    }


def main() -> None:
    plan = json.loads(sys.argv[1])
    broken_specs.prepare()
    uid = plan["user"]
    environment = {**os.environ, **plan["env"]}
    INSTALLED[uid] = readers.installed(user.named(str(uid)), environment)
    for case in CASES:
        if case.id in plan["cases"]:
            print(json.dumps(compare(plan, case)), flush=True)


INSTALLED: dict[int, list[readers.Reader]] = {}

if __name__ == "__main__":
    main()
