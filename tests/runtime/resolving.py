# SPDX-License-Identifier: Apache-2.0
"""A host for the resolution of requests; its edits name the spec that they are from."""

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
    """Edits that name the spec that they are from."""
    return {
        "cdiVersion": "0.5.0",
        "kind": kind,
        "devices": [
            {"name": name, "containerEdits": {"env": [f"{mark}={kind}={name}"]}} for name in names
        ],
    }


FILE = spec("nvidia.com/gpu", "FILE", "0", "1", UUID, "all", "none")
PREPARED = {
    "specs": [
        spec("nvidia.com/gpu", "PREPARED", "0", "1", "1:0", UUID, "all", "none"),
        spec("nvidia.com/cap", "PREPARED", "compute", "utility", "video"),
        spec("nvidia.com/gds", "PREPARED", "all"),
        spec("nvidia.com/nvswitch", "PREPARED", "all"),
        spec("nvidia.com/imex-channel", "PREPARED", "0", "7"),
    ],
    "facts": {"cuda": "12.4", "driver": "550.54", "gpus": []},
    "converted": {},
}


class World:
    """A host: spec files, a prepared file and config.toml; and the requests of containers."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Configuration()
        self.folder = folder / "cdi"
        self.folder.mkdir(mode=0o755)
        self.settings.spec_dirs = (str(self.folder),)
        self.prepared: Document | HookError = PREPARED
        self.findings: list[Finding] = []
        self.stamps: Document = {}
        monkeypatch.setattr(prepared, "load", self._load)

    def _load(
        self, _settings: object, _report: object, stamps: Document | None = None
    ) -> prepared.Prepared:
        self.stamps = stamps or {}
        if isinstance(self.prepared, HookError):
            raise self.prepared
        prepared_file = prepared.Prepared(self.prepared)
        for path, conversion in prepared_file.converted.items():
            if conversion:
                conversion.setdefault("stamp", self.stamps.get(path))
        return prepared_file

    def file(self, document: object, name: str = "nvidia.json") -> None:
        (self.folder / name).write_text(json.dumps(document))

    def edits(
        self,
        *variables: str,
        annotations: dict[str, str] | None = None,
        allowed: bool = True,
    ) -> list[str] | None:
        """The variables of the edits, which name the spec that each edit comes from."""
        config: Document = {"process": {"env": [*variables]}, "annotations": annotations or {}}
        container_edits = resolution.edits(
            config, self.settings, annotations=allowed, report=self.findings.append
        )
        if container_edits is None:
            return None
        documents: list[Any] = [*container_edits]
        return [variable for edits in documents for variable in edits.get("env", ())]

    @property
    def messages(self) -> list[str]:
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
