# SPDX-License-Identifier: Apache-2.0
"""The facts of an image and of a host that decide whether the image's CUDA runs on the host.

A fact that is not known is None or an empty tuple. Versions are text as their source has them:
``580.95.05``, ``12.8``, a compute capability ``9.0``.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdi_gen.values import Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HostGpu(Value):
    """A GPU of the host."""

    name: str
    """For messages: ``GPU 0 (NVIDIA H200)``."""
    capability: str | None = None
    """The compute capability, ``9.0``."""
    brand: str | None = None
    """In the words of ``NVIDIA_REQUIRE_CUDA``: ``nvidia``, ``geforce``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class HostFacts(Value):
    """The facts of a host."""

    name: str = ""
    """The host's name in tables; empty for this host."""
    driver: str | None = None
    """The version of the driver; None if the host has none, or it is not known."""
    cuda: str | None = None
    """The newest CUDA version that the driver's libcuda supports."""
    kernel_module: str | None = None
    """``open`` or ``proprietary``; anything else on WSL 2 and Tegra."""
    architecture: str | None = None
    """As ``uname -m`` prints it."""
    gpus: tuple[HostGpu, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CompatNote(Value):
    """The ELF note of a compat libcuda."""

    cuda: str | None = None
    drivers: tuple[int, ...] = ()
    """Branches of the driver on which the library may be used."""
    brands: tuple[int, ...] = ()
    """NVML's numbers of the brands of GPUs that the library supports; empty: all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CompatLibrary(Value):
    """A libcuda of a newer driver in the image, for forward compatibility."""

    path: str
    version: str | None = None
    """Of the driver that the library is from, by its file name."""
    note: CompatNote | None = None
    """None for a library before R575, and for one whose note is invalid."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class DeviceCode(Value):
    """The code for GPUs in one library of the image."""

    path: str
    cubins: tuple[str, ...] = ()
    """Architectures of machine code, ``sm_90``, ``sm_90a``, ``sm_100f``."""
    ptx: tuple[str, ...] = ()
    """Architectures of PTX, which the driver compiles for newer GPUs: ``compute_90``."""
    complete: bool = True
    """Whether the whole library was read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ImageFacts(Value):
    """The facts of an image."""

    name: str = ""
    digest: str | None = None
    architecture: str | None = None
    """In OCI's words: ``amd64``, ``arm64``."""
    cuda: str | None = None
    """The version of the CUDA toolkit or of its libraries, ``12.8.1``; the newest if several."""
    cuda_source: str = ""
    """What says so: ``CUDA_VERSION``, ``NVIDIA_REQUIRE_CUDA``, a path in the image."""
    requirements: tuple[tuple[str, str], ...] = ()
    """``NVIDIA_REQUIRE_*`` variables and their expressions."""
    requirements_disabled: bool = False
    """Whether the image sets ``NVIDIA_DISABLE_REQUIRE``."""
    compat: tuple[CompatLibrary, ...] = ()
    """All libcuda.so.N.N of ``/usr/local/cuda/compat``; the hook uses none if there are several."""
    compat_setting: str = ""
    """What makes the image's loader find a compat libcuda on every host: ``LD_LIBRARY_PATH``, or a
    file in ``/etc/ld.so.conf.d``; empty: nothing, so that the hook decides."""
    device_code: tuple[DeviceCode, ...] = ()
    unread: tuple[str, ...] = ()
    """What could not be read of the image, a sentence each."""
