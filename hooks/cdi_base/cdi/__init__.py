# SPDX-License-Identifier: Apache-2.0
"""The Container Device Interface: the parts that the hooks and the library share."""

from __future__ import annotations

SPEC_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
"""The directories where engines search for specs by the standard, in rising priority."""
