# SPDX-License-Identifier: Apache-2.0
"""Compares an image's CUDA version and compat libcuda with the driver, without regard to GPUs."""

from __future__ import annotations

from typing import NamedTuple

from cdi_base import forward_compatibility, versions
from cdi_base.findings import Finding
from cdi_base.forward_compatibility import Note
from cdi_base.versions import Version
from cdi_gen.compat import data
from cdi_gen.compat.data import Pair
from cdi_gen.compat.facts import CompatLibrary, HostFacts, ImageFacts

NATIVE = "native"
MINOR_VERSION = "minor-version"
FORWARD_COMPAT = "forward-compat"
NO = "no"


class Outcome(NamedTuple):
    """A verdict by the versions alone."""

    kind: str
    reasons: tuple[Finding, ...]
    limits: tuple[Finding, ...] = ()
    library: CompatLibrary | None = None
    """The compat libcuda that is used."""


def outcome(
    image: ImageFacts, host: HostFacts, *, driver: Version, toolkit: Pair, newest: Pair
) -> Outcome:
    """Return whether the driver runs the toolkit.

    Args:
        image: the facts of the image.
        host: the facts of the host.
        driver: the version of the host's driver.
        toolkit: the CUDA version of the image.
        newest: the newest CUDA version that the driver supports.
    """
    numbers = (
        f"the image has CUDA {image.cuda} ({image.cuda_source}), driver {host.driver} supports "
        f"CUDA up to {data.text(newest)}"
    )
    library, rejections = _usable_library(image, host, driver)
    fault = None if library is not None else _loaded_nevertheless(image, driver)
    if fault is not None and fault.severity == "error":
        return Outcome(NO, (fault, *rejections))
    faults = () if fault is None else (fault,)
    if toolkit <= newest:
        return Outcome(NATIVE, (Finding("CDG-M001", "info", numbers),), faults)
    lowest = data.minor_version_drivers().get(toolkit[0])
    is_minor = lowest is not None and _at_least(driver, lowest)
    if library is not None:
        return _forward(numbers, library, driver[0], is_minor=is_minor)
    if is_minor:
        message = f"{numbers}; CUDA {toolkit[0]}.x has minor-version compatibility from {lowest} on"
        limits = (*_minor_version_limits(toolkit, newest), *rejections, *faults)
        return Outcome(MINOR_VERSION, (Finding("CDG-M002", "info", message),), limits)
    first = data.first_drivers().get(toolkit)
    least = lowest or first
    needed = f"; it needs driver {least} or newer" if least else ""
    target = f"driver {first or least}" if least else "a driver of a newer branch"
    fix = f"install {target} or newer, or use an image with CUDA {data.text(newest)} or older"
    return Outcome(NO, (Finding("CDG-M004", "error", numbers + needed, fix=fix), *rejections))


def _at_least(driver: Version, least: str) -> bool:
    return driver >= (versions.parse(least) or ())


def _forward(numbers: str, library: CompatLibrary, branch: int, *, is_minor: bool) -> Outcome:
    version = f" (driver {library.version})" if library.version else ""
    message = f"{numbers}; the image's {library.path}{version} may be used here"
    directory = library.path.rpartition("/")[0]
    otherwise = "minor-version compatibility" if is_minor else "error 35, insufficient driver"
    limits = [
        Finding(
            "CDG-M010",
            "info",
            "programs find the image's libcuda only with the hook's step enable-cuda-compat or "
            f"LD_LIBRARY_PATH; otherwise: {otherwise}",
            fix=f"without a hook: start the container with -e LD_LIBRARY_PATH={directory}",
        )
    ]
    if branch not in data.forward_compatibility_branches():
        message_of_support = (
            f"NVIDIA does not list branch {branch} among the hosts of forward compatibility"
        )
        limits.append(Finding("CDG-M009", "info", message_of_support))
    return Outcome(FORWARD_COMPAT, (Finding("CDG-M003", "info", message),), tuple(limits), library)


def _minor_version_limits(toolkit: Pair, newest: Pair) -> tuple[Finding, ...]:
    built, supported = data.text(toolkit), data.text(newest)
    return (
        Finding(
            "CDG-M007",
            "warning",
            f"PTX that CUDA {built} compiled does not run: the driver's compiler is of CUDA "
            f"{supported} (cudaErrorUnsupportedPtxVersion, 222)",
            fix="use libraries with machine code for the host's GPUs, or a newer driver",
        ),
        Finding(
            "CDG-M008",
            "warning",
            f"functions of the driver that are newer than CUDA {supported} fail "
            "(cudaErrorCallRequiresNewerDriver, 36)",
            fix="use a newer driver if the program reports the error",
        ),
    )


def _loaded_nevertheless(image: ImageFacts, driver: Version) -> Finding | None:
    """Return the fault of an image whose loader finds a compat libcuda that must not be used.

    A variable takes precedence over every cache of the loader. A file in /etc/ld.so.conf.d has no
    effect with cdi-gen's hook, which puts the driver's libraries first; with others it may.
    """
    library = image.compat[0] if len(image.compat) == 1 else None
    if library is None or not image.compat_setting:
        return None
    if versions.parse(library.version or "") == driver:
        return None
    setting = image.compat_setting
    result = f"its {library.path} instead of the driver's libcuda: error 803 or 804"
    if setting.startswith("/"):
        message = f"without cdi-gen's hook, {setting} may make programs of the image load {result}"
        fix = "use a spec with cdi-gen's hook, or remove the file from the image and run ldconfig"
        return Finding("CDG-M110", "warning", message, fix=fix)
    message = f"{setting} of the image makes programs load {result}"
    return Finding("CDG-M110", "error", message, fix=f"start the container with -e {setting}=")


def _usable_library(
    image: ImageFacts, host: HostFacts, driver: Version
) -> tuple[CompatLibrary | None, tuple[Finding, ...]]:
    """Return the compat libcuda that the hook would use; or None, and why it would not."""
    if not image.compat:
        return None, ()
    if len(image.compat) > 1:
        paths = ", ".join(library.path for library in image.compat)
        message = f"the image has several compat libcuda, so the hook uses none: {paths}"
        return None, (Finding("CDG-M011", "warning", message, fix="remove all but one"),)
    library = image.compat[0]
    reason = forward_compatibility.rejection(
        versions.parse(library.version or ""),
        _note(library),
        driver=driver,
        cuda=versions.parse(host.cuda or ""),
        brands=sorted({gpu.brand for gpu in host.gpus if gpu.brand}),
    )
    if reason is None:
        return library, ()
    message = f"the image's {library.path} cannot be used here: {reason}"
    fix = "use a newer driver, or an image with another cuda-compat package"
    return None, (Finding("CDG-M011", "warning", message, fix=fix),)


def _note(library: CompatLibrary) -> Note | None:
    if library.note is None:
        return None
    cuda = versions.parse(library.note.cuda or "")
    return Note(cuda, frozenset(library.note.drivers), frozenset(library.note.brands))
