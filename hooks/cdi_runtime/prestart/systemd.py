# SPDX-License-Identifier: Apache-2.0
"""Tells systemd of the devices of a container that lies in one of its scopes.

systemd writes a unit's device rules anew whenever it likes, at `daemon-reload` for one, from what
it knows: `DeviceAllow` of the unit. What others wrote into the control group is gone then, and a
container loses its GPUs. So they are added to the unit's runtime properties, as
`systemctl set-property --runtime` does. A device is named twice: by number, which systemd takes
since 240 (2018) without looking for the file that no NVIDIA driver makes, and by the host's node,
for those before.
"""

from __future__ import annotations

# What `socket` runs underneath; `socket` itself costs 3 ms.
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
"""There if systemd is what was booted, says sd_booted(3)."""
SOCKET = "/run/systemd/private"
"""systemd's own, for root: it needs no message bus."""
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
        rules: what to allow.

    Returns:
        Whether there was something to tell: False without systemd, or where it restricts nothing
        in this scope. A first device would make it begin to.

    Raises:
        HookError: systemd cannot be reached, or refuses.
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
            f"systemd cannot be told of {shown(scope)}'s devices: {reason}", code="CDG-T203"
        ) from None
    except dbus.MessageError as error:
        raise HookError(
            f"systemd was told of {shown(scope)}'s devices: {error}", code="CDG-T203"
        ) from None


def _allow(peer: dbus.Peer, scope: str, rules: Sequence[Rule]) -> bool:
    unit = f"{_MANAGER_PATH}/unit/{escaped(scope)}"
    question = (unit, _PROPERTIES, "Get", "ss")
    policy = peer.call(*question, (_SCOPE, "DevicePolicy")).text()
    allowed = dict(peer.call(*question, (_SCOPE, "DeviceAllow")).pairs())
    if policy == "auto" and not allowed:
        return False
    devices = _with(allowed, rules)
    properties = [("DeviceAllow", ("a(ss)", list(devices.items())))]
    peer.call(_MANAGER_PATH, _MANAGER, "SetUnitProperties", "sba(sv)", (scope, True, properties))
    return True


def _with(allowed: Mapping[str, str], rules: Sequence[Rule]) -> dict[str, str]:
    """What is to be added: a device that has been named before keeps what it may."""
    added: dict[str, str] = {}
    for rule in rules:
        names = [f"/dev/{_KINDS[rule.kind]}/{rule.major}:{rule.minor}"]
        # It refuses all of them for the sake of one that lies elsewhere.
        if rule.node.startswith("/dev/"):
            names.append(rule.node)
        for name in names:
            access = rule.access + allowed.get(name, "") + added.get(name, "")
            added[name] = "".join(letter for letter in "rwm" if letter in access)
    return added


def escaped(unit: str) -> str:
    """A unit's name in an object's path: what is neither letter nor digit is `_` and its code."""
    return "".join(
        chr(byte)
        if chr(byte).isascii() and chr(byte).isalnum() and not (place == 0 and chr(byte).isdigit())
        else f"_{byte:02x}"
        for place, byte in enumerate(os.fsencode(unit))
    )
