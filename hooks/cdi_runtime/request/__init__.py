# SPDX-License-Identifier: Apache-2.0
"""Reads what a container requests: `read` returns the `Request` in its config.json.

Device names, driver capabilities, IMEX channels and mounts have a module each.
"""

from __future__ import annotations

from cdi_runtime.request.container_request import VENDORS, Request, RequestError, read

__all__ = ["VENDORS", "Request", "RequestError", "read"]
