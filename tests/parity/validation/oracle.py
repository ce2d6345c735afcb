# SPDX-License-Identifier: Apache-2.0
"""The standard's own Go library as a second opinion: which spec files would an engine refuse?"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.lab import go
from tests.lab.cache import LabUnavailableError

LIBRARY = "tags.cncf.io/container-device-interface"
UNTIL_0_6 = "github.com/container-orchestrated-devices/container-device-interface"
"""What the module was called before; 0.6.2 has both names."""


class Oracle:
    """One release of the library, built once and kept in the user's cache."""

    def __init__(self, version: str, work: Path) -> None:
        self.version = version
        self._work = work
        module = UNTIL_0_6 if version.startswith("0.5.") else LIBRARY
        text = Path(__file__).with_name("verdict.go").read_text()
        try:
            self._program = go.compiled(
                text.replace(LIBRARY, module), "cdi-verdict", module, f"v{version}"
            )
        except LabUnavailableError as error:
            pytest.skip(str(error))

    def verdicts(self, texts: Mapping[str, str | bytes]) -> dict[str, str]:
        """Return of each named text ``"ok"``, or ``"refused ..."`` with the library's reason."""
        folder = self._work / f"specs-{self.version}"
        folder.mkdir(exist_ok=True)
        paths = []
        for index, text in enumerate(texts.values()):
            path = folder / f"{index}.yaml"
            content = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
            path.write_bytes(content)
            paths.append(str(path))
        done = subprocess.run(
            [self._program], input="\n".join(paths), capture_output=True, text=True, check=True
        )
        return dict(zip(texts, done.stdout.removesuffix("\n").split("\n"), strict=True))
