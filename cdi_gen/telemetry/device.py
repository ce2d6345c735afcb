# SPDX-License-Identifier: Apache-2.0
"""A GPU or MIG device as NVML's functions take it."""

from __future__ import annotations

import ctypes
from ctypes import byref
from typing import Any

from cdi_gen.telemetry import library
from cdi_gen.telemetry.library import Nvml

_FAULTS = frozenset(
    {
        library.UNINITIALIZED,
        library.DRIVER_NOT_LOADED,
        library.GPU_IS_LOST,
        library.RESET_REQUIRED,
        library.LIB_RM_VERSION_MISMATCH,
        library.GPU_NOT_FOUND,
    }
)
_SESSION_FAULTS = frozenset(
    {library.UNINITIALIZED, library.DRIVER_NOT_LOADED, library.LIB_RM_VERSION_MISMATCH}
)
LASTING = frozenset(
    {
        library.INVALID_ARGUMENT,
        library.NOT_SUPPORTED,
        library.FUNCTION_NOT_FOUND,
        library.VERSION_MISMATCH,
        library.DEPRECATED,
    }
)
"""Codes with which the same question will be answered in the next pass too."""


class GpuFault(Exception):  # noqa: N818 - a state of the GPU, not a fault of the program
    """The GPU cannot be measured."""

    def __init__(self, nvml: Nvml, code: int) -> None:
        super().__init__(nvml.error(code))
        self.ends_session = code in _SESSION_FAULTS
        """Whether NVML has to be initialised again."""


class Device:
    """Asks NVML about one device, in one thread at a time.

    A question that this GPU or driver does not support is not asked again before `forget`.
    """

    def __init__(self, nvml: Nvml, handle: ctypes.c_void_p, *, is_mig: bool = False) -> None:
        self.nvml = nvml
        self.handle = handle
        # NVML's answer about a MIG device that was destroyed, and may be created again.
        self._lasting = LASTING - {library.INVALID_ARGUMENT} if is_mig else LASTING
        self._has_answered = False
        self._last_error = library.SUCCESS
        self._call = nvml.call
        self._unsupported: set[tuple[str, Any]] = set()
        self._uint = ctypes.c_uint()
        self._uint_reference = byref(self._uint)
        self._ulonglong = ctypes.c_ulonglong()
        self._ulonglong_reference = byref(self._ulonglong)

    def forget(self) -> None:
        """Ask again what was not supported: the mode of the GPU may have changed."""
        self._unsupported.clear()

    def begin_pass(self) -> None:
        """Begin a pass, which `end_pass` ends."""
        self._has_answered = False
        self._last_error = library.SUCCESS

    def end_pass(self) -> None:
        """Check that the GPU has answered something.

        Raises:
            GpuFault: it has not, and not because it does not support what was asked.
        """
        if not self._has_answered and self._last_error not in {library.SUCCESS, *LASTING}:
            raise GpuFault(self.nvml, self._last_error)

    def ask(self, name: str, *arguments: Any, key: Any = None) -> bool:
        """Call a function with the device and these arguments; return whether it has answered.

        Args:
            name: the function.
            arguments: after the device.
            key: what tells this question from others to the same function.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        return self.code(name, *arguments, key=key) == library.SUCCESS

    def code(self, name: str, *arguments: Any, key: Any = None) -> int:
        """Call a function as `ask` does; return NVML's code, `NOT_SUPPORTED` if it was before.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        question = (name, key)
        if question in self._unsupported:
            return library.NOT_SUPPORTED
        code = self._call(name, self.handle, *arguments)
        if code == library.SUCCESS:
            self._has_answered = True
            return code
        self._last_error = code
        if code in _FAULTS:
            raise GpuFault(self.nvml, code)
        if code in self._lasting:
            self._unsupported.add(question)
        return code

    def number(self, name: str, *arguments: int) -> int | None:
        """Return the unsigned int that a function gives; None if it does not answer.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        key = arguments or None
        return (
            self._uint.value if self.ask(name, *arguments, self._uint_reference, key=key) else None
        )

    def large_number(self, name: str) -> int | None:
        """Return the unsigned long long that a function gives; None if it does not answer.

        Raises:
            GpuFault: the GPU cannot be measured.
        """
        return self._ulonglong.value if self.ask(name, self._ulonglong_reference) else None
