# SPDX-License-Identifier: Apache-2.0
"""Loads libnvidia-ml and calls its functions by ctypes.

Not by pynvml: it keeps the library in a global variable, which the rest of this program replaces,
and a call that hangs in one driver must not continue in the next one. Also it takes 24 ms and
5.7 MiB to import, and old releases of it lack functions that the driver has. See the decision 0012.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from cdi_base import trust
from cdi_gen.host.devices.mig_mode import NvmlUnavailable

SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION = range(5)
NOT_FOUND, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, TIMEOUT = 6, 7, 9, 10
FUNCTION_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED, LIB_RM_VERSION_MISMATCH = 13, 15, 16, 18
VERSION_MISMATCH, DEPRECATED, GPU_NOT_FOUND = 25, 26, 28

_loads: dict[str, list[tuple[int, int]]] = {}
"""The files (device, inode) that were loaded from each path, without repetitions."""


class Nvml:
    """A loaded libnvidia-ml. Every call returns NVML's code; no call raises."""

    def __init__(self, path: str) -> None:
        """Load the library.

        Raises:
            NvmlUnavailable: it does not load, or a user other than root could change it, and this
                process is root.
        """
        try:
            if os.geteuid() == 0 and (reason := trust.fault(path)):
                raise NvmlUnavailable(f"root does not load {path}: {reason}")
            self._library = ctypes.CDLL(_path_to_load(path))
        except OSError as error:
            raise NvmlUnavailable(f"{path} does not load: {error}") from error
        self._functions: dict[str, Any] = {}

    def call(self, name: str, *arguments: Any) -> int:
        """Call a function; `FUNCTION_NOT_FOUND` if this library does not have it."""
        function = self._functions.get(name)
        if function is None:
            try:
                function = self._library[name]
            except AttributeError:
                function = _absent
            self._functions[name] = function
        code: int = function(*arguments)
        return code

    def has(self, name: str) -> bool:
        """Return whether the library has the function."""
        return hasattr(self._library, name)

    def error(self, code: int) -> str:
        """Return NVML's words for a code."""
        function = self._library["nvmlErrorString"]
        function.restype = ctypes.c_char_p
        text: bytes = function(code) or b""
        return text.decode("ascii", errors="replace") or f"error {code}"

    def text(self, name: str, *arguments: Any, size: int = 96) -> str:
        """Return the text that a function writes to a buffer; empty if it fails."""
        buffer = ctypes.create_string_buffer(size)
        if self.call(name, *arguments, buffer, size) != SUCCESS:
            return ""
        return buffer.value.decode("ascii", errors="replace")


def _absent(*_arguments: Any) -> int:
    return FUNCTION_NOT_FOUND


def _path_to_load(path: str) -> str:
    """Return a path that makes the dynamic loader read the file again if it was replaced.

    The loader takes a library that it loaded before under the same path, without looking at the
    file. Under another path it compares device and inode.
    """
    status = os.stat(path)
    identity = (status.st_dev, status.st_ino)
    files = _loads.setdefault(path, [])
    if identity not in files:
        files.append(identity)
    directory, _, name = path.rpartition("/")
    return f"{directory}/{'./' * files.index(identity)}{name}"
