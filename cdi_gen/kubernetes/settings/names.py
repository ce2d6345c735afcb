# SPDX-License-Identifier: Apache-2.0
"""Names of extended resources, as Kubernetes allows them."""

from __future__ import annotations

import re

from cdi_gen.errors import UsageError
from cdi_gen.kubernetes.settings.model import PREFIX

MAX_LENGTH = 63
"""NVIDIA's limit for a name with its prefix, so that ``requests.PREFIX/NAME`` is a quota's name."""

_SUBDOMAIN = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
_QUALIFIED = re.compile(rf"({_SUBDOMAIN})/([A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)")


def resource_name(text: str) -> str:
    """Return the resource's name with its prefix, which is ``nvidia.com/`` if the text has none.

    Raises:
        UsageError: Kubernetes does not allow the name, or the name is too long.
    """
    name = text if "/" in text else PREFIX + text
    fault = _fault(name)
    if fault:
        raise UsageError(
            f"{text!r} is not the name of a resource: {fault}",
            hint="write a name such as nvidia.com/gpu.shared",
            code="CDG-N004",
            subject=text,
        )
    return name


def mig_resource_name(profile: str) -> str:
    """Return the name for the MIG devices of a profile: ``nvidia.com/mig-1g.10gb.me``."""
    return f"{PREFIX}mig-{profile.replace('+', '.')}"


def _fault(name: str) -> str:
    match = _QUALIFIED.fullmatch(name)
    if match is None:
        return "it has other characters than letters, digits, '-', '_', '.' and one '/'"
    if match[1] == "kubernetes.io" or match[1].endswith(".kubernetes.io"):
        return "names of kubernetes.io belong to Kubernetes"
    if match[1].startswith("requests."):
        return "a prefix that starts with 'requests.' belongs to quotas"
    if len(name) > MAX_LENGTH:
        return f"it has {len(name)} characters, {MAX_LENGTH} are allowed"
    return ""
