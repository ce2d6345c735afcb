# SPDX-License-Identifier: Apache-2.0
"""The environment of a container's process, and whether it is privileged, by its config.json."""

from __future__ import annotations

from cdi_base import json_object, oci_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    Document = dict[str, object]

WHERE = "config.json"
_SYS_ADMIN = "CAP_SYS_ADMIN"


def variables_of(process: Document, names: tuple[str, ...]) -> dict[str, str]:
    """The variables that the process will see, of those whose entries begin with one of the names.

    Raises:
        DocumentError: `env` is no list of texts.
        HookError: there are too many.
    """
    return oci_config.variables(json_object.texts_of(process, "env", WHERE), names)


def process_of(config: Document) -> Document:
    """The process that the container will run."""
    return json_object.object_of(config, "process", WHERE)


def is_privileged(process: Document) -> bool:
    """Whether it can have CAP_SYS_ADMIN, as `docker run --privileged` gives it."""
    capabilities = process.get("capabilities")
    bounding = capabilities.get("bounding") if isinstance(capabilities, dict) else None
    return isinstance(bounding, list) and _SYS_ADMIN in bounding
