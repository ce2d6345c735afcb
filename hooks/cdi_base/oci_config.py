# SPDX-License-Identifier: Apache-2.0
"""Reads a bundle's config.json, the OCI runtime configuration, strictly and up to limits."""

from __future__ import annotations

import os

from cdi_base import files, strict_json, trust
from cdi_base.errors import HookError

NAME = "config.json"
MAX_BYTES = 8 << 20
"""Linux gives a program 6 MiB of arguments and environment at most (fs/exec.c)."""
MAX_VALUES = 500_000
"""The largest number of texts, commas and brackets; a value takes up to 300 bytes of memory."""
MAX_VARIABLES = 4096
"""The largest number of variables that are read."""


def read(bundle: int) -> dict[str, object]:
    """Return the configuration of a bundle.

    Args:
        bundle: a descriptor of the bundle's directory.

    Raises:
        OSError: config.json cannot be opened or read.
        HookError: config.json does not follow the OCI runtime specification.
    """
    try:
        descriptor = files.open_regular(NAME, directory=bundle)
    except files.NotRegularError:
        raise HookError(f"{NAME} is not a regular file", code="CDG-K004") from None
    try:
        owner = os.fstat(descriptor).st_uid
        # In a user namespace config.json belongs to the engine's user, who can have any number
        # there: with Podman's --userns=keep-id the number outside, while the hook runs as root.
        if not trust.is_trusted_owner(owner) and trust.in_first_user_namespace():
            raise HookError(
                f"{NAME} belongs to user {owner}, not to root or the hook's user", code="CDG-K004"
            )
        content = files.beginning(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    return parse(content, NAME)


def parse(content: bytes, name: str) -> dict[str, object]:
    """Return the JSON object in a config.json; parts of its content come from the image.

    Raises:
        HookError: the content is not a JSON object, or larger than any container needs.
    """
    if len(content) > MAX_BYTES:
        raise HookError(f"{name} is larger than {MAX_BYTES} bytes", code="CDG-K004")
    # An upper bound. Counting takes 1 ms a MiB; parsing so many values takes 100 MiB of memory.
    if content.count(b'"') // 2 + sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise HookError(
            f"{name} has more than {MAX_VALUES} texts, commas and brackets", code="CDG-K004"
        )
    return strict_json.parse_object(content, name)


def environment(bundle: int, names: tuple[str, ...]) -> dict[str, str]:
    """Return the environment of the container's process.

    Args:
        bundle: a descriptor of the bundle's directory.
        names: prefixes of the entries to return.

    Raises:
        OSError: config.json cannot be opened or read.
        HookError: config.json does not follow the OCI runtime specification.
    """
    process = read(bundle).get("process")
    entries = (process.get("env") or []) if isinstance(process, dict) else []
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise HookError(f"'process.env' of {NAME} is not a list of texts", code="CDG-K004")
    return variables(entries, names)


def is_read_only(bundle: int) -> bool:
    """Whether config.json asks for a root that the container cannot write to.

    Raises:
        OSError: config.json cannot be opened or read.
        HookError: config.json does not follow the OCI runtime specification.
    """
    root = read(bundle).get("root")
    return isinstance(root, dict) and root.get("readonly") is True


def variables(entries: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """Return variables of `process.env`, as the container's process sees them.

    The last of several entries of a name counts, as in runc (libcontainer, `prepareEnv`; before
    1.3 by `os.Setenv`), crun (`putenv`) and runsc, and so in NVIDIA's programs. dockerd appends
    the value of `--gpus` to the image's own ENV, kubelet the variables of a device plugin.

    Args:
        entries: `NAME=VALUE`; entries of another form are ignored.
        names: prefixes of the entries to return; the image may have any others.

    Raises:
        HookError: there are more variables than any image has.
    """
    values: dict[str, str] = {}
    for entry in reversed(entries):
        if entry.startswith(names):
            name, equals, value = entry.partition("=")
            if equals and name not in values:
                values[name] = value
                if len(values) > MAX_VARIABLES:
                    raise HookError(
                        f"'process.env' has more than {MAX_VARIABLES} variables of NVIDIA",
                        code="CDG-R802",
                    )
    return values
