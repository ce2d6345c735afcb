# SPDX-License-Identifier: Apache-2.0
"""Secure Boot: whether it is on, whether the kernel rejected a module, which key signs modules."""

from __future__ import annotations

import re

from cdi_gen.doctor.check import Unseen
from cdi_gen.doctor.host import Host

VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""The variable of the firmware (UEFI specification, section 3.3): four bytes of attributes, a
value."""

REJECTED = re.compile(
    r"Loading of (?:unsigned module|module with unavailable key|module with unsupported crypto) is "
    r"rejected|Lockdown: \S+ unsigned module loading is restricted",
    re.IGNORECASE,
)
"""The messages of kernel/module/signing.c and security/lockdown."""

KEYS = (
    "/var/lib/shim-signed/mok/MOK.der",  # Ubuntu
    "/var/lib/dkms/mok.pub",  # DKMS
    "/etc/pki/akmods/certs/public_key.der",  # akmods of Fedora
)
"""The certificates with which distributions sign the modules that a host builds."""


def is_on(host: Host) -> bool | None:
    """Whether the firmware enforces Secure Boot; None if it is not visible."""
    try:
        content = host.read(VARIABLE, 16)
    except Unseen:
        return None
    if content is None:
        return False  # no UEFI
    return content[4:5] == b"\x01"


def rejection(host: Host) -> str | None:
    """Return the last message of the kernel that it rejected a module; None without one.

    Raises:
        Unseen: the kernel's log is not visible.
    """
    lines = [line.text for line in host.kernel_log if REJECTED.search(line.text)]
    return lines[-1] if lines else None


def key(host: Host) -> str | None:
    """Return the path of the certificate with which modules are signed on this host."""
    return next((path for path in KEYS if _exists(host, path)), None)


def _exists(host: Host, path: str) -> bool:
    try:
        return host.exists(path)
    except Unseen:
        return False
