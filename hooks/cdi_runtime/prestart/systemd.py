# SPDX-License-Identifier: Apache-2.0
"""Adds devices to what systemd allows a container, if the container is in a scope of systemd.

systemd writes a unit's device rules again at times, for instance at `daemon-reload`, from the
unit's `DeviceAllow`. Rules that others wrote to the control group are lost then, and the container
loses its GPUs. So the devices are added to the unit's runtime properties, as `systemctl
set-property --runtime` does. Each device is added twice: by number, as /dev/char/MAJOR:MINOR, which
systemd since 240 (2018) accepts without the file, which no NVIDIA driver creates; and by the host's
node, for older releases.
"""

from __future__ import annotations

# `socket` imports this module; `socket` itself takes 3 ms.
import _socket
import errno
import os

from cdi_base.errors import HookError, shown
from cdi_runtime.prestart import dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdi_runtime.prestart.device_filter import Rule

RUNNING = "/run/systemd/system"
"""It exists if the machine was booted with systemd; see sd_booted(3)."""
SOCKET = "/run/systemd/private"
"""systemd's own socket, for root; it needs no message bus."""
SECONDS = 5

_MANAGER_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_SCOPE = "org.freedesktop.systemd1.Scope"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_KINDS = {"b": "block", "c": "char"}


def allow(scope: str, rules: Sequence[Rule]) -> bool:
    """Add the devices to those that systemd allows the scope.

    Args:
        scope: the unit's name.
        rules: the devices to allow.

    Returns:
        Whether the devices were added. False without systemd, or if systemd restricts no devices
        in this scope: the first device in `DeviceAllow` would make systemd restrict all others.

    Raises:
        HookError: systemd cannot be reached, or rejects the change.
    """
    try:
        os.stat(RUNNING)
    except FileNotFoundError:
        return False
    try:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        connection.settimeout(SECONDS)
        try:
            connection.connect(SOCKET)
            return _allow(dbus.Peer(connection), scope, rules)
        finally:
            connection.close()
    except OSError as error:
        # A time-out has no errno.
        reason = os.strerror(error.errno or errno.ETIMEDOUT)
        raise HookError(
            f"cannot add devices to {shown(scope)} in systemd: {reason}", code="CDG-T203"
        ) from None
    except dbus.MessageError as error:
        raise HookError(
            f"cannot add devices to {shown(scope)}: systemd {error}", code="CDG-T203"
        ) from None


def _allow(peer: dbus.Peer, scope: str, rules: Sequence[Rule]) -> bool:
    unit = f"{_MANAGER_PATH}/unit/{escaped(scope)}"
    get_property = (unit, _PROPERTIES, "Get", "ss")
    policy = peer.call(*get_property, (_SCOPE, "DevicePolicy")).text()
    allowed = dict(peer.call(*get_property, (_SCOPE, "DeviceAllow")).pairs())
    if policy == "auto" and not allowed:
        return False
    devices = _added(allowed, rules)
    properties = [("DeviceAllow", ("a(ss)", list(devices.items())))]
    peer.call(_MANAGER_PATH, _MANAGER, "SetUnitProperties", "sba(sv)", (scope, True, properties))
    return True


def _added(allowed: Mapping[str, str], rules: Sequence[Rule]) -> dict[str, str]:
    """Return the entries to add; a device that has an entry keeps the access it has."""
    added: dict[str, str] = {}
    for rule in rules:
        names = [f"/dev/{_KINDS[rule.kind]}/{rule.major}:{rule.minor}"]
        # systemd rejects the whole list if a node is not below /dev.
        if rule.node.startswith("/dev/"):
            names.append(rule.node)
        for name in names:
            access = rule.access + allowed.get(name, "") + added.get(name, "")
            added[name] = "".join(letter for letter in "rwm" if letter in access)
    return added


def escaped(unit: str) -> str:
    """Return a unit's name for an object path: `_` and the code for all but letters and digits."""
    return "".join(
        chr(byte)
        if chr(byte).isascii() and chr(byte).isalnum() and not (index == 0 and chr(byte).isdigit())
        else f"_{byte:02x}"
        for index, byte in enumerate(os.fsencode(unit))
    )
