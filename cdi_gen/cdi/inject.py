# SPDX-License-Identifier: Apache-2.0
"""Devices into an OCI configuration: what an engine does between `--device` and `runc create`.

>>> from cdi_gen.cdi.inject import inject
>>> from cdi_gen.cdi.wire import load
>>> spec = load(text)                                   # of /etc/cdi/nvidia.json
>>> edited = inject(config, ["nvidia.com/gpu=0"], [spec])
>>> edited["linux"]["devices"][0]["path"]
'/dev/nvidiactl'

The rules are those of the standard's own library; `cdi_base.cdi.injection` has them, which also the
runtime shim and the prestart hook use.
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
    """The devices cannot be put into this configuration on this host."""

    code = "CDG-F202"


class UnresolvedError(InjectError):
    """Names that no spec stands for.

    ``absent`` are defined nowhere; ``conflicting`` by two specs of one directory.
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
    """Return a new configuration: ``config`` with devices.

    Args:
        config: an OCI runtime configuration, as parsed from ``config.json``; it is not changed, and
            fields that nobody knows are kept.
        names: qualified device names, ``nvidia.com/gpu=0``.
        directories: the specs of each spec directory; the later directory wins. They are taken as
            they are: what engines would refuse is for `cdi_gen.cdi.validation` to say.
        look: tells what device node is at a path of the host, where a spec leaves that open. The
            default is the only part that looks at this machine.

    Raises:
        UnresolvedError: a name is not defined, or twice in one directory.
        InjectError: a device node needs one of the host that is not there; or a part of the
            configuration is not of the type that it must have.
    """
    edited: dict[str, Any] = _copied(dict(config))
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


def _copied(value: Any) -> Any:
    """JSON again: as `copy.deepcopy`, without its import and its bookkeeping."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value
