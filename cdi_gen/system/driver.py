# SPDX-License-Identifier: Apache-2.0
"""Waits for the driver while a host boots, if the host is one that will have it.

udev loads the module of a device that it finds, which takes some seconds with several GPUs, and
nothing orders another service after it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from cdi_gen.host.devices import proc
from cdi_gen.host.roots import Root

PAUSE_SECONDS = 0.2
MAX_BYTES = 16 << 20
VENDOR, DISPLAY_CLASSES = "0x10de", ("0x0300", "0x0302")
DRIVER = "nvidia"
_MODULE_FILE = re.compile(r"/nvidia(?:-current|-tesla[\w.-]*|-legacy[\w.-]*)?\.ko\b")
"""The module in a line of modules.dep: Debian gives it the name of its package."""


def gpu_addresses(kernel: Root) -> Iterator[str]:
    """Yield the PCI addresses of NVIDIA's GPUs on the bus, with or without a driver."""
    for address in _entries(kernel, "/sys/bus/pci/devices"):
        device = f"/sys/bus/pci/devices/{address}"
        if _text(kernel, f"{device}/vendor") == VENDOR and _text(
            kernel, f"{device}/class"
        ).startswith(DISPLAY_CLASSES):
            yield address


def is_ready(kernel: Root) -> bool:
    """Whether the module is loaded, and has initialised its GPUs."""
    if not kernel.exists("/proc/driver/nvidia/version"):
        return False
    modules = [name for name in _entries(kernel, "/sys/module") if name.startswith(DRIVER)]
    # The module creates the file before it looks for GPUs.
    return "coming" not in {_text(kernel, f"/sys/module/{name}/initstate") for name in modules}


def is_expected(kernel: Root) -> bool:
    """Whether udev will load the module: for a GPU without another driver, if it is installed."""
    drivers = {_driver(kernel, address) for address in gpu_addresses(kernel)}
    if not drivers & {"", DRIVER}:
        return False
    path = f"/lib/modules/{proc.kernel_release(kernel)}/modules.dep"
    try:
        return _MODULE_FILE.search(kernel.read_text(path, MAX_BYTES)) is not None
    except OSError:
        return False


def wait(kernel: Root, seconds: float, *, sleep: Callable[[float], object] = time.sleep) -> bool:
    """Wait for an expected driver, at most so long; return whether the driver is ready."""
    deadline = time.monotonic() + seconds
    while not is_ready(kernel):
        # The links and entries of a root are remembered, and these change.
        kernel = Root(kernel.name, seen_from=kernel.open_path("/"))
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not (kernel.exists("/proc/driver/nvidia") or is_expected(kernel)):
            return False
        sleep(min(PAUSE_SECONDS, remaining))
    return True


def _driver(kernel: Root, address: str) -> str:
    """Return the name of the driver that a device is bound to; empty without one."""
    try:
        return kernel.resolve(f"/sys/bus/pci/devices/{address}/driver").rpartition("/")[2]
    except OSError:
        return ""


def _entries(kernel: Root, directory: str) -> list[str]:
    try:
        return sorted(entry.name for entry in kernel.entries(kernel.resolve(directory)))
    except OSError:
        return []


def _text(kernel: Root, path: str) -> str:
    try:
        return kernel.read_text(path).strip()
    except OSError:
        return ""
