# SPDX-License-Identifier: Apache-2.0
"""The standard's own Go library as a second opinion: which spec files would an engine refuse?"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LIBRARY = "tags.cncf.io/container-device-interface"


class Oracle:
    """One release of the library, built once and kept in the user's cache."""

    def __init__(self, version: str, work: Path) -> None:
        self.version = version
        self._work = work
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._program = cache / "cdi-gen" / "bin" / f"cdi-verdict-{version}"
        if not self._program.exists():
            self._build()

    def _build(self) -> None:
        if not shutil.which("go"):
            pytest.skip("needs Go, to build the standard's own library")
        folder = self._work / f"build-{self.version}"
        folder.mkdir()
        shutil.copy(Path(__file__).with_name("verdict.go"), folder / "main.go")
        self._program.parent.mkdir(parents=True, exist_ok=True)
        for arguments in (
            ["mod", "init", "verdict"],
            ["get", f"{LIBRARY}/pkg/cdi@{self.version}"],
            ["build", "-o", f"{self._program}.{os.getpid()}", "."],
        ):
            done = subprocess.run(
                ["go", *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            if arguments[0] == "get" and done.returncode:
                pytest.skip(f"the module proxy does not answer: {done.stderr.strip()[-200:]}")
            assert done.returncode == 0, done.stderr
        os.replace(f"{self._program}.{os.getpid()}", self._program)

    def verdicts(self, texts: dict[str, str]) -> dict[str, str]:
        """Return of each named text ``"ok"``, or ``"refused ..."`` with the library's reason."""
        folder = self._work / f"specs-{self.version}"
        folder.mkdir(exist_ok=True)
        paths = []
        for index, text in enumerate(texts.values()):
            path = folder / f"{index}.yaml"
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            paths.append(str(path))
        done = subprocess.run(
            [self._program], input="\n".join(paths), capture_output=True, text=True, check=True
        )
        return dict(zip(texts, done.stdout.removesuffix("\n").split("\n"), strict=True))
