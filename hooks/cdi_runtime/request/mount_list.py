# SPDX-License-Identifier: Apache-2.0
"""Reads devices that are listed as mounts of `/dev/null`.

The destination of a mount is `/var/run/nvidia-container-devices/NAME`. NAME is a device name as in
`NVIDIA_VISIBLE_DEVICES`, `cdi/VENDOR/CLASS/NAME` or `cdi/VENDOR/CLASS=NAME` for a CDI device, or
`imex/NUMBER` for an IMEX channel. A user who may create pods can set their environment but not
these mounts; a device plugin can set the mounts.
"""

from __future__ import annotations

from cdi_base.cdi.names import is_qualified
from cdi_base.errors import shown
from cdi_runtime.request.device_names import RequestError

ROOT = "/var/run/nvidia-container-devices"
_ROOT = ROOT.split("/")[1:]
_SOURCE = ["dev", "null"]
CDI, IMEX = "cdi", "imex"
_OLD_MIG = "MIG-GPU-"


def read(mounts: list[dict[str, object]]) -> tuple[list[str], list[str]]:
    """Return the words for devices and those for IMEX channels, in the order of the mounts.

    Raises:
        RequestError: the name of a mount has none of these forms.
    """
    devices: list[str] = []
    channels: list[str] = []
    for mount in mounts:
        components = name_of_entry(mount)
        if not components:
            continue
        if len(components) == 2 and components[0] == IMEX:
            channels.append(components[1])
        else:
            devices.append(_word(components))
    return devices, channels


def name_of_entry(mount: dict[str, object]) -> list[str]:
    """Return the components of NAME if a mount is an entry of the list; else an empty list."""
    source, destination = mount.get("source"), mount.get("destination")
    if not isinstance(source, str) or not isinstance(destination, str):
        return []
    components = _components(destination)
    # Components and not a prefix: /var/run/nvidia-container-devices-of-mine is another directory.
    is_in_list = components[: len(_ROOT)] == _ROOT
    if not is_in_list or not source.startswith("/") or _components(source) != _SOURCE:
        return []
    return components[len(_ROOT) :]


def _word(components: list[str]) -> str:
    """Return the entry's device name as NVIDIA_VISIBLE_DEVICES would have it."""
    first, *rest = components
    if first == CDI:
        if len(rest) == 3:
            rest = [rest[0], f"{rest[1]}={rest[2]}"]
        word = "/".join(rest)
        if len(rest) == 2 and is_qualified(word):
            return word
    elif not rest or (len(rest) == 2 and first.upper().startswith(_OLD_MIG)):
        return "/".join(components)
    raise RequestError(
        f"the mount at {shown('/'.join([ROOT, *components]))} does not name a device",
        code="CDG-R105",
    )


def _components(path: str) -> list[str]:
    """Return the components of a path without `.` and `..`, as if no component were a link."""
    components: list[str] = []
    for component in path.split("/"):
        if component == "..":
            del components[-1:]
        elif component not in {"", "."}:
            components.append(component)
    return components
