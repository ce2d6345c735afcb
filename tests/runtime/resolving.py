# SPDX-License-Identifier: Apache-2.0
"""A host for the resolution of requests: spec files, a preparation, config.toml; edits say whose they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_runtime.config_toml.settings import Configuration
from cdi_runtime.specs import prepared, resolution

Document = dict[str, Any]

UUID = "GPU-ab100000-c0de-4000-8000-000000001000"


def spec(kind: str, mark: str, *names: str) -> Document:
    """Edits that say where they come from."""
    return {
        "cdiVersion": "0.5.0",
        "kind": kind,
        "devices": [
            {"name": name, "containerEdits": {"env": [f"{mark}={kind}={name}"]}} for name in names
        ],
    }


FILE = spec("nvidia.com/gpu", "FILE", "0", "1", UUID, "all", "none")
MADE = {
    "specs": [
        spec("nvidia.com/gpu", "MADE", "0", "1", "1:0", UUID, "all", "none"),
        spec("nvidia.com/cap", "MADE", "compute", "utility", "video"),
        spec("nvidia.com/gds", "MADE", "all"),
        spec("nvidia.com/nvswitch", "MADE", "all"),
        spec("nvidia.com/imex-channel", "MADE", "0", "7"),
    ],
    "facts": {"cuda": "12.4", "driver": "550.54", "gpus": []},
    "converted": {},
}


class World:
    """A host: spec files, a preparation, config.toml; and what is asked for in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Configuration()
        self.folder = folder / "cdi"
        self.folder.mkdir(mode=0o755)
        self.settings.spec_dirs = (str(self.folder),)
        self.made: Document | HookError = MADE
        self.findings: list[Finding] = []
        self.wanted: Document = {}
        monkeypatch.setattr(prepared, "load", self._load)

    def _load(
        self, _settings: object, _tell: object, wanted: Document | None = None
    ) -> prepared.Prepared:
        self.wanted = wanted or {}
        if isinstance(self.made, HookError):
            raise self.made
        found = prepared.Prepared(self.made)
        for path, conversion in found.converted.items():
            if conversion:
                conversion.setdefault("stamp", self.wanted.get(path))
        return found

    def file(self, document: object, name: str = "nvidia.json") -> None:
        (self.folder / name).write_text(json.dumps(document))

    def edits(
        self,
        *variables: str,
        annotations: dict[str, str] | None = None,
        allowed: bool = True,
    ) -> list[str] | None:
        """The variables of the edits: where each comes from."""
        config: Document = {"process": {"env": [*variables]}, "annotations": annotations or {}}
        found = resolution.edits(
            config, self.settings, annotations=allowed, tell=self.findings.append
        )
        if found is None:
            return None
        documents: list[Any] = [*found]
        return [variable for each in documents for variable in each.get("env", ())]

    @property
    def told(self) -> list[str]:
        return [finding.message for finding in self.findings]

    def devices(self, value: str, *more: str, **how: Any) -> list[str] | None:
        return self.edits(f"NVIDIA_VISIBLE_DEVICES={value}", *more, **how)

    def refusal(self, *variables: str, **how: Any) -> str:
        with pytest.raises(HookError) as raised:
            self.edits(*variables, **how)
        text = str(raised.value)
        assert "\n" not in text
        assert len(text) < 1000
        return text
