# SPDX-License-Identifier: Apache-2.0
"""The file of ``cdi-gen doctor --report``: the answers of a host, for checks on another one."""

from __future__ import annotations

from cdi_base import strict_json
from cdi_gen.doctor.recording import Answer
from cdi_gen.errors import CdiGenError

MAX_BYTES = 64 << 20


def answers(content: bytes, name: str) -> dict[str, dict[str, Answer]]:
    """Return the answers of a report, or those that an inventory gives.

    Raises:
        CdiGenError: the content is neither.
    """
    try:
        document = strict_json.parse(content.decode("utf-8"))
    except (UnicodeDecodeError, strict_json.JSONError) as error:
        raise _neither(name, str(error)) from error
    if isinstance(document, dict) and "formatVersion" in document:
        return {"inventory": {"": {"value": document}}}
    raise _neither(name, "the file has no formatVersion")


def _neither(name: str, reason: str) -> CdiGenError:
    return CdiGenError(
        f"{name} is not an inventory: {reason}",
        hint="make one on the host: cdi-gen inventory -o FILE",
        code="CDG-I001",
        subject=name,
    )
