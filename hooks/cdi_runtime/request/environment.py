# SPDX-License-Identifier: Apache-2.0
"""The environment of a container's process, and whether it is privileged, by its config.json."""

from __future__ import annotations

from cdi_hook.faults import shown
from cdi_runtime import document
from cdi_runtime.request.device_names import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    Document = dict[str, object]

WHERE = "config.json"
_SYS_ADMIN = "CAP_SYS_ADMIN"


class Environment:
    """The variables; one that a request is read of must be there once.

    Of two entries of one name the process may see the one, and a check have seen the other.
    """

    __slots__ = ("_twice", "_values")

    def __init__(self, process: Document) -> None:
        self._values: dict[str, str] = {}
        self._twice: set[str] = set()
        for entry in document.texts_of(process, "env", WHERE):
            name, equals, value = entry.partition("=")
            if not equals:
                continue
            if name in self._values:
                self._twice.add(name)
            self._values[name] = value

    def get(self, name: str) -> str | None:
        """The value; None where the variable is not set.

        Raises:
            RequestError: it is set twice.
        """
        if name in self._twice:
            raise RequestError(f"{shown(name)[1:-1]} is twice in the container's environment")
        return self._values.get(name)

    def last(self, name: str) -> str:
        """The value that counts nowhere, to be looked at; empty where the variable is not set."""
        return self._values.get(name, "")

    def has(self, name: str) -> bool:
        """Whether the variable is set, to whatever."""
        return name in self._values


def process_of(config: Document) -> Document:
    """The process that the container will run."""
    return document.object_of(config, "process", WHERE)


def is_privileged(process: Document) -> bool:
    """Whether it can have CAP_SYS_ADMIN, as `docker run --privileged` gives it."""
    capabilities = process.get("capabilities")
    bounding = capabilities.get("bounding") if isinstance(capabilities, dict) else None
    return isinstance(bounding, list) and _SYS_ADMIN in bounding
