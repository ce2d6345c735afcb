# SPDX-License-Identifier: Apache-2.0
"""The C compiler of the bundle: Zig's, a package of PyPI, which has musl for every architecture.

The same compiler and C library give the same program on every machine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from tools.cache import cached, home
from tools.steps import run, say

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "compiler.txt"

FLAGS = (
    *("-O2", "-fPIE", "-fstack-protector-strong", "-ffunction-sections", "-fdata-sections"),
    *("-fno-sanitize=undefined", "-Wno-date-time"),
)
"""Zig checks for undefined behaviour unless told otherwise; __DATE__ is SOURCE_DATE_EPOCH."""

LINK_FLAGS = ("-static", "-pie", "-Wl,--gc-sections", "-Wl,-s")


class Compiler(NamedTuple):
    """Programs that compile for one architecture, and what they need of the environment."""

    cc: Path
    ar: Path
    ranlib: Path
    musl_license: Path
    environment: dict[str, str]


def prepare(architecture: str, directory: Path, *, epoch: int) -> Compiler:
    """Write the compiler's programs for an architecture to ``directory``.

    Args:
        architecture: ``x86_64`` or ``aarch64``.
        directory: for the programs, and for what the compiler keeps during a build.
        epoch: the time that a program is told to have been built at.
    """
    zig = cached(home() / "bundle", "zig", REQUIREMENTS.read_text("utf-8"), _install) / "ziglang"
    programs = {}
    for name, words in {
        "cc": f"cc -target {architecture}-linux-musl",
        "ar": "ar",
        "ranlib": "ranlib",
    }.items():
        programs[name] = directory / name
        programs[name].write_text(f'#!/bin/sh\nexec {zig}/zig {words} "$@"\n', "utf-8")
        programs[name].chmod(0o755)
    # musl itself is compiled once for each architecture.
    environment = {
        "SOURCE_DATE_EPOCH": str(epoch),
        "ZIG_GLOBAL_CACHE_DIR": os.fspath(home() / "bundle" / "zig-cache"),
        "ZIG_LOCAL_CACHE_DIR": os.fspath(directory / "zig-cache"),
    }
    return Compiler(
        programs["cc"],
        programs["ar"],
        programs["ranlib"],
        zig / "lib/libc/musl/COPYRIGHT",
        environment,
    )


def _install(directory: Path) -> None:
    say("installing the C compiler (100 MB)")
    options = (
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        "--no-compile",
    )
    run(sys.executable, "-m", "pip", "install", *options, "--target", directory, "-r", REQUIREMENTS)
