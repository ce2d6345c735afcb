# SPDX-License-Identifier: Apache-2.0
"""Reads from config.json the process's environment, and whether the container is privileged."""

from __future__ import annotations

from cdi_base import json_object, oci_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    Document = dict[str, object]

CONFIG = "config.json"
_SYS_ADMIN = "CAP_SYS_ADMIN"


def variables_of(process: Document, names: tuple[str, ...]) -> dict[str, str]:
    """Return the process's variables whose entries begin with one of the names.

    Raises:
        DocumentError: `env` is not a list of strings.
        HookError: there are too many variables.
    """
    return oci_config.variables(json_object.texts_of(process, "env", CONFIG), names)


def process_of(config: Document) -> Document:
    """Return the process that the container will run."""
    return json_object.object_of(config, "process", CONFIG)


def is_privileged(process: Document) -> bool:
    """Whether the process can have CAP_SYS_ADMIN, as after `docker run --privileged`."""
    capabilities = process.get("capabilities")
    bounding = capabilities.get("bounding") if isinstance(capabilities, dict) else None
    return isinstance(bounding, list) and _SYS_ADMIN in bounding
