# SPDX-License-Identifier: Apache-2.0
"""The base under the hooks and the library: standard library only, and cheap to import."""

from __future__ import annotations

VERSION = "0.1.0"
"""The version of cdi-gen; the hooks, the library and the package take it from here."""
