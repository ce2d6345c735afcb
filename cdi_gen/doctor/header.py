# SPDX-License-Identifier: Apache-2.0
"""The first lines of ``cdi-gen doctor``: the host, its driver, GPUs and engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from cdi_gen.catalogue import pci_device_names
from cdi_gen.doctor.check import Unseen
from cdi_gen.doctor.host import Host
from cdi_gen.errors import CdiGenError

UNKNOWN = "not visible"


def header(host: Host) -> tuple[tuple[str, str], ...]:
    """Return titles and texts. What this user cannot see is `UNKNOWN`."""
    parts: dict[str, Callable[[Host], str]] = {
        "host": _system,
        "driver": _driver,
        "GPUs": _gpus,
        "engines": _engines,
    }
    return tuple((title, _seen(part, host)) for title, part in parts.items())


def _seen(part: Callable[[Host], str], host: Host) -> str:
    try:
        return part(host)
    except (Unseen, CdiGenError):
        return UNKNOWN
    except Exception:
        if host.recording.is_replay:
            return UNKNOWN  # a report is a stranger's file
        raise


def _system(host: Host) -> str:
    release = (host.text("/etc/os-release", 1 << 14) or "").splitlines()
    values = dict(line.split("=", 1) for line in release if "=" in line)
    distribution = values.get("PRETTY_NAME", "").strip("\"'") or "unknown distribution"
    return f"{distribution}, Linux {host.kernel_release or 'unknown'}"


def _driver(host: Host) -> str:
    module = host.driver_module
    if module is None:
        return "not loaded"
    text = f"{module.version} ({module.kind} kernel module)"
    try:
        driver = host.inventory.driver
    except (Unseen, CdiGenError):
        return text
    return f"{text}, libraries {driver.library_version}" if driver else text


def _gpus(host: Host) -> str:
    models = Counter(_models(host))
    text = ", ".join(f"{count} {model}" for model, count in models.items()) or "none"
    try:
        on_the_bus = len(host.pci_gpus)
    except Unseen:
        return text  # a bare inventory
    return text if on_the_bus <= models.total() else f"{text} ({on_the_bus} on the PCI bus)"


def _models(host: Host) -> Iterator[str]:
    try:
        gpus = host.inventory.gpus
    except (Unseen, CdiGenError):
        names = pci_device_names()
        for function in host.pci_gpus:
            yield names.get(function.device, f"unknown GPU 10de:{function.device:04x}")
        return
    yield from (gpu.model for gpu in gpus)


def _engines(host: Host) -> str:
    names = (
        f"{status.engine} {status.version or '(unknown version)'}" + " rootless" * status.rootless
        for status in host.engines
    )
    return ", ".join(names) or "none"
