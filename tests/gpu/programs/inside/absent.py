# SPDX-License-Identifier: Apache-2.0
"""Ends a program that this root file system does not have, with the status that says so."""

import ctypes
import importlib
import sys
from typing import Any

ABSENT = 77


def needed(name: str) -> Any:
    """A module, where the root has it; any other fault of its import is the program's."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            print(error)
            sys.exit(ABSENT)
        raise


def library(name: str) -> ctypes.CDLL:
    """A library of the image's own."""
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        if f"{name}: cannot open" in str(error):
            print(error)
            sys.exit(ABSENT)
        raise
