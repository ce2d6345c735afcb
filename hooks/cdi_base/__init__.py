# SPDX-License-Identifier: Apache-2.0
"""The base layer of the hooks and the library: standard library only, and cheap to import.

This module itself holds the version of cdi-gen and the names of its programs and files.
"""

from __future__ import annotations

VERSION = "0.1.0"
"""The version of cdi-gen; the hooks, the library and the package take it from here."""

HOOK = "cdi-gen-hook"
"""The hook program that CDI specs name; OCI runtimes run it."""
RUNTIME = "cdi-gen-runtime"
"""The runtime shim, which an engine runs instead of runc or crun."""
PRESTART_HOOK = "cdi-gen-runtime-hook"
"""The prestart hook, which dockerd or a file in hooks.d names; OCI runtimes run it."""

CONFIGURATION, CONFIGURATION_DROP_INS = "/etc/cdi-gen/config.toml", "/etc/cdi-gen/config.d"
"""The administrator's configuration: where the driver and its files are on this host."""

PREPARED_DIRECTORY, PREPARED_NAME = "/run/cdi-gen", "runtime.json"
"""The file of prepared specs: the library writes it, the shim and the prestart hook read it."""
