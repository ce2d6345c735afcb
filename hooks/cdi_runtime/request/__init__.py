# SPDX-License-Identifier: Apache-2.0
"""What a container asks for: `read` gives the `Request` in its config.json.

Each grammar has a module of its own: device names, driver capabilities, IMEX channels, mounts.
"""

from __future__ import annotations

from cdi_runtime.request.container_request import VENDORS, Request, RequestError, read

__all__ = ["VENDORS", "Request", "RequestError", "read"]
