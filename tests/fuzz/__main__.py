# SPDX-License-Identifier: Apache-2.0
"""Fuzz one target: ``python -m tests.fuzz TARGET [CORPUS] [libFuzzer's options]``.

Needs atheris, which is no dependency: ``pip install atheris``. ``make fuzz FUZZ=read-elf`` does both
in an environment of its own, for ten minutes.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

import atheris


def main() -> None:
    """Run libFuzzer on a target, beginning with its seeds."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["cdi_base", "cdi_hook", "cdi_runtime"]):
        # Imported here and no earlier: only what is imported now tells the fuzzer where it goes.
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    seeds = importlib.import_module("tests.fuzz.seeds").SEEDS
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds[name]):
            Path(corpus, f"seed{number}").write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, *options], targets[name])
        atheris.Fuzz()


main()
