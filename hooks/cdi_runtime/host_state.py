# SPDX-License-Identifier: Apache-2.0
"""A cheap look at the host, to know whether what was made of it still fits: no driver is asked.

The library writes it into the prepared file, the shim compares: one wording for both. Everything in
it is text, numbers and lists, and so the same after a way through JSON.
"""

from __future__ import annotations

import os

from cdi_hook import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    State = list[object]

DRIVER = "/proc/driver/nvidia"
PRESENT = (
    "/etc/cufile.json",
    "/run/nvidia-persistenced/socket",
    "/run/nvidia-fabricmanager/socket",
    "/tmp/nvidia-mps",  # noqa: S108  (where the driver's programs put it)
)
"""What comes and goes and is in specs: daemons may start after the first container."""

NODES = "nvidia"
"""How names in /dev begin: nvidia0, nvidiactl, nvidia-uvm, nvidia-fs0, nvidia-nvswitch0 …"""
OTHER_NODES = ("gdrdrv", "infiniband", "dri")


class Choices:
    """What was chosen of a host's configuration; another choice is another preparation."""

    __slots__ = ("disabled_hooks", "driver_root", "feature_flags", "hook", "spec_directories")

    def __init__(
        self,
        driver_root: str = "",
        hook: str = "",
        spec_directories: Sequence[str] = (),
        disabled_hooks: Sequence[str] = (),
        feature_flags: Sequence[str] = (),
    ) -> None:
        self.driver_root = driver_root.rstrip("/")
        self.hook = hook
        self.spec_directories = tuple(spec_directories)
        self.disabled_hooks = tuple(disabled_hooks)
        self.feature_flags = tuple(feature_flags)


def key(choices: Choices) -> State:
    """All that a preparation depends on, of this host now."""
    root = choices.driver_root
    return [
        VERSION,
        [root, list(choices.disabled_hooks), list(choices.feature_flags)],
        [choices.hook, _stamp(choices.hook)],
        _text(f"{DRIVER}/version"),
        _names(f"{DRIVER}/gpus"),
        _instances(f"{DRIVER}/capabilities"),
        _nodes(f"{root}/dev"),
        # A driver that is replaced brings libraries, and ldconfig is run for them.
        [_stamp(f"{root}/etc/ld.so.cache"), _identity(root or "/")],
        [path for path in PRESENT if _identity(path)],
        [[path, _stamp(path)] for path in yaml_files(choices.spec_directories)],
    ]


def yaml_files(directories: Sequence[str]) -> list[str]:
    """The spec files that only the library can read."""
    return [
        f"{directory}/{name}"
        for directory in directories
        for name in _names(directory)
        if name.endswith(".yaml")
    ]


def _nodes(directory: str) -> State:
    found: State = []
    for name in _names(directory):
        if not name.startswith(NODES) and name not in OTHER_NODES:
            continue
        try:
            status = os.lstat(f"{directory}/{name}")
        except OSError:
            continue
        below = _names(f"{directory}/{name}") if not status.st_rdev else []
        found.append([name, status.st_rdev, status.st_mode, below])
    return found


def _instances(directory: str) -> State:
    """The MIG devices: `gpuN/mig/giN/ciN`, and which GPUs have MIG enabled."""
    return [
        [gpu, [[instance, _names(f"{directory}/{gpu}/mig/{instance}")] for instance in instances]]
        for gpu in _names(directory)
        if gpu.startswith("gpu")
        for instances in [[n for n in _names(f"{directory}/{gpu}/mig") if n.startswith("gi")]]
    ]


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 4096).decode("ascii", "backslashreplace")
    finally:
        os.close(descriptor)


def _stamp(path: str) -> list[int]:
    """What changes when a file does."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return []
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]


def _identity(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return []
    return [status.st_dev, status.st_ino]
