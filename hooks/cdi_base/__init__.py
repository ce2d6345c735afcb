# SPDX-License-Identifier: Apache-2.0
"""The base under the hooks and the library: standard library only, and cheap to import.

This module itself says what of cdi-gen is installed: its version, its programs and their files.
"""

from __future__ import annotations

VERSION = "0.1.0"
"""The version of cdi-gen; the hooks, the library and the package take it from here."""

HOOK = "cdi-gen-hook"
"""Run by an OCI runtime because a CDI spec says so."""
RUNTIME = "cdi-gen-runtime"
"""The shim, run by an engine in the place of runc or crun."""
PRESTART_HOOK = "cdi-gen-runtime-hook"
"""Run by an OCI runtime because dockerd or a hooks.d file says so."""

CONFIGURATION, CONFIGURATION_DROP_INS = "/etc/cdi-gen/config.toml", "/etc/cdi-gen/config.d"
"""How the host is laid out, said by its administrator."""

PREPARED_DIRECTORY, PREPARED_NAME = "/run/cdi-gen", "runtime.json"
"""Where the library leaves what the shim and the prestart hook apply."""
