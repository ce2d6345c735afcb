# SPDX-License-Identifier: Apache-2.0
"""The Container Device Interface, as the hooks and the library both need it."""

from __future__ import annotations

SPEC_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
"""Where the standard has engines look for specs, in rising priority."""
