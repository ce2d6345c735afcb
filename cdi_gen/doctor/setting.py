# SPDX-License-Identifier: Apache-2.0
"""The command that sets a key of cdi-gen's configuration on the host."""

from __future__ import annotations

from cdi_base import CONFIGURATION_DROP_INS


def command(key: str, value: str) -> str:
    """Return the command that writes a drop-in file with one key of ``[host]``."""
    return (
        f"sudo mkdir -p {CONFIGURATION_DROP_INS} && printf '[host]\\n{key} = \"{value}\"\\n' | "
        f"sudo tee {CONFIGURATION_DROP_INS}/{key}.toml"
    )
