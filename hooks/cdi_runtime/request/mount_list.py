# SPDX-License-Identifier: Apache-2.0
"""Devices listed as volumes: `/dev/null` mounted at `/var/run/nvidia-container-devices/NAME`.

Whoever may start a pod can set its environment, but not mount this; a device plugin can. There,
`cdi/VENDOR/CLASS/NAME` and `cdi/VENDOR/CLASS=NAME` are CDI devices, `imex/ID` is a channel.
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
    """The words for devices, and those for IMEX channels, in the order of the mounts.

    Raises:
        RequestError: a mount there is in none of the forms.
    """
    devices: list[str] = []
    channels: list[str] = []
    for mount in mounts:
        below = entry(mount)
        if not below:
            continue
        if len(below) == 2 and below[0] == IMEX:
            channels.append(below[1])
        else:
            devices.append(_word(below))
    return devices, channels


def entry(mount: dict[str, object]) -> list[str]:
    """The components below the directory if a mount is an entry of the list; [] if it is none."""
    source, destination = mount.get("source"), mount.get("destination")
    if not isinstance(source, str) or not isinstance(destination, str):
        return []
    parts = _parts(destination)
    # By component: /var/run/nvidia-container-devices-of-mine is something else.
    if parts[: len(_ROOT)] != _ROOT or not source.startswith("/") or _parts(source) != _SOURCE:
        return []
    return parts[len(_ROOT) :]


def _word(below: list[str]) -> str:
    """What the entry would be called in NVIDIA_VISIBLE_DEVICES."""
    kind, *rest = below
    if kind == CDI:
        if len(rest) == 3:
            rest = [rest[0], f"{rest[1]}={rest[2]}"]
        word = "/".join(rest)
        if len(rest) == 2 and is_qualified(word):
            return word
    elif not rest or (len(rest) == 2 and kind.upper().startswith(_OLD_MIG)):
        return "/".join(below)
    raise RequestError(
        f"the mount at {shown('/'.join([ROOT, *below]))} lists no device", code="CDG-R105"
    )


def _parts(path: str) -> list[str]:
    """The components, as the kernel would go if there were no links."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return parts
