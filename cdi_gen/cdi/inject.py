# SPDX-License-Identifier: Apache-2.0
"""Adds CDI devices to an OCI runtime configuration, as an engine does before `runc create`.

>>> from cdi_gen.cdi.inject import inject
>>> from cdi_gen.cdi.wire import load
>>> spec = load(text)                                   # of /etc/cdi/nvidia.json
>>> edited = inject(config, ["nvidia.com/gpu=0"], [spec])
>>> edited["linux"]["devices"][0]["path"]
'/dev/nvidiactl'

The rules are those of the standard's Go library. `cdi_base.cdi.injection` implements them, for the
runtime shim and the prestart hook as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cdi_base.cdi import injection
from cdi_base.cdi.injection import NodeStatus, look_at
from cdi_base.errors import HookError
from cdi_gen.cdi.document import to_document
from cdi_gen.cdi.model import Spec
from cdi_gen.errors import CdiGenError

__all__ = ["InjectError", "NodeStatus", "UnresolvedError", "inject", "look_at"]


class InjectError(CdiGenError):
    """The devices cannot be added to this configuration on this host."""

    code = "CDG-F202"


class UnresolvedError(InjectError):
    """Device names that cannot be resolved.

    No spec defines the names in ``absent``; two specs of one directory define those in
    ``conflicting``.
    """

    code = "CDG-F203"

    def __init__(
        self, message: str, *, absent: tuple[str, ...], conflicting: tuple[str, ...]
    ) -> None:
        super().__init__(message)
        self.absent = absent
        self.conflicting = conflicting


def inject(
    config: Mapping[str, Any],
    names: Iterable[str],
    *directories: Iterable[Spec],
    look: Callable[[str], NodeStatus] = look_at,
) -> dict[str, Any]:
    """Return a copy of ``config`` with the edits of the devices.

    Args:
        config: an OCI runtime configuration, as parsed from ``config.json``; it is not changed, and
            its unknown fields are kept.
        names: qualified device names, ``nvidia.com/gpu=0``.
        directories: the specs of each spec directory; the later directory has priority. The specs
            are not validated; see `cdi_gen.cdi.validation`.
        look: returns the type and numbers of a device node of the host, for specs that leave them
            out. The default reads the file system of this host.

    Raises:
        UnresolvedError: no spec defines a name, or two specs of one directory define it.
        InjectError: a device node does not exist on the host and the spec leaves its numbers out;
            or a part of the configuration has a wrong type.
    """
    edited: dict[str, Any] = _copy(dict(config))
    documents = [[to_document(spec) for spec in directory] for directory in directories]
    try:
        injection.apply(edited, injection.resolve(names, documents), look)
    except injection.UnresolvedError as error:
        raise UnresolvedError(
            str(error), absent=error.absent, conflicting=error.conflicting
        ) from error
    except HookError as error:
        raise InjectError(str(error), code="CDG-F202") from error
    return edited


def _copy(value: Any) -> Any:
    """A deep copy of a JSON value, faster than `copy.deepcopy` and without its import."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
