# SPDX-License-Identifier: Apache-2.0
"""The standard's own Go library as a program that is asked: what becomes of this configuration?"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.cache import LabUnavailableError, cached

HERE = Path(__file__).parent
SOURCES = ("go.mod", "go.sum", "inject.go")
LIBRARY = "tags.cncf.io/container-device-interface"


def pinned() -> str:
    """The library and its release, as go.mod has them."""
    words = (HERE / "go.mod").read_text().split()
    return f"{LIBRARY} {words[words.index(LIBRARY) + 1]}"


class Reference:
    """The running program. One question at a time, so that Hypothesis can shrink a failing one."""

    def __init__(self) -> None:
        recipe = "".join((HERE / name).read_text() for name in SOURCES)
        program = cached("cdi-inject", recipe, _build) / "inject"
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """``directories``, ``config``, ``devices`` -> ``config``, ``unresolved`` or ``failed``."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question, ensure_ascii=False) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def as_read(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What a runtime written in Go knows of a configuration once it has read it."""
        answer = self.ask({"directories": [], "config": config, "devices": []})
        read: dict[str, Any] = answer["config"]
        return read

    def close(self) -> None:
        """End the program."""
        with self._process as process:
            assert process.stdin
            process.stdin.close()
        assert process.returncode == 0


def _build(folder: Path) -> None:
    if not shutil.which("go"):
        raise LabUnavailableError("needs Go, to build the standard's own library")
    for name in SOURCES:
        shutil.copy(HERE / name, folder)
    done = subprocess.run(
        ["go", "build", "-trimpath", "-o", "inject", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise LabUnavailableError(f"Go does not build it: {done.stderr.strip()[-200:]}")
