# SPDX-License-Identifier: Apache-2.0
"""The rule of forward compatibility: whether a compat libcuda may be used on a driver and its GPUs.

The hook's step enable-cuda-compat applies the rule in a container, `cdi-gen compat` to an image. A
compat libcuda is the libcuda of a newer driver. Since R575 its ELF note states the drivers and GPUs
that it supports; for an older one its version and the GPUs' brand decide. On an unsupported host
CUDA fails with error 803 (driver) or 804 (GPU), so the answer is no in case of doubt.
"""

from __future__ import annotations

from cdi_base import versions
from cdi_base.nvidia import BRANDS
from cdi_base.strict_json import parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdi_base.versions import Version

DIRECTORY = "/usr/local/cuda/compat"
STEM = "libcuda.so."
SECTION = b".note.cuda.fwd_compatibility"
MAX_NOTE = 8 << 10

WITHOUT_COMPAT = frozenset({"geforce", "titan", "geforcertx", "titanrtx"})
"""Brands for which CUDA rejects forward compatibility (error 804), whatever the versions."""


class Note:
    """The ELF note of a compat libcuda: its CUDA version, and the drivers and GPUs it supports."""

    __slots__ = ("brands", "cuda", "drivers")

    def __init__(
        self, cuda: Version | None, drivers: frozenset[int], brands: frozenset[int]
    ) -> None:
        self.cuda = cuda
        self.drivers = drivers
        self.brands = brands


def rejection(
    compat: Version | None,
    note: Note | None,
    *,
    driver: Version | None,
    cuda: Version | None = None,
    brands: Iterable[str] = (),
) -> str | None:
    """Return why not to use the compat libcuda; None if it is to be used.

    Args:
        compat: the version of the compat libcuda, None if unknown.
        note: its ELF note, None if it has none.
        driver: the version of the host's driver, None if unknown.
        cuda: the newest CUDA version of the host's driver; counts if a version of a driver is
            unknown.
        brands: of the host's GPUs, as far as known.
    """
    if note is None:
        # Libraries before R575 have no note.
        if compat is None or driver is None:
            return "its version or the version of the driver is unknown"
        if compat[0] <= driver[0]:
            return f"the driver's branch {driver[0]} is not older than its branch {compat[0]}"
        for brand in brands:
            if brand in WITHOUT_COMPAT:
                return f"CUDA refuses forward compatibility on {brand} GPUs (error 804)"
        return None
    if note.brands:
        for brand in brands:
            if BRANDS.index(brand) not in note.brands:
                return f"its ELF note does not list {brand} GPUs (error 804)"
    if compat is not None and driver is not None:
        if driver[0] not in note.drivers:
            return f"its ELF note does not list driver branch {driver[0]} (error 803)"
        return None if compat > driver else "it is not newer than the driver"
    if note.cuda and cuda and note.cuda > cuda:
        return None
    return "it is not newer than the driver, or a version is unknown"


def parse_note(content: bytes) -> Note:
    """Parse the JSON of the note.

    Raises:
        HookError: the note is not a JSON object.
    """
    fields = parse_object(content[:MAX_NOTE], "the note of the image's libcuda")
    values = {name.lower(): value for name, value in fields.items()}
    cuda = values.get("cuda version")
    return Note(
        versions.parse(cuda) if isinstance(cuda, str) else None,
        _numbers(values.get("driver")),
        _numbers(values.get("device")),
    )


def _numbers(value: object) -> frozenset[int]:
    if not isinstance(value, list):
        return frozenset()
    return frozenset(number for number in value if isinstance(number, int))
