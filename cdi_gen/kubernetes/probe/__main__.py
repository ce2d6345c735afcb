# SPDX-License-Identifier: Apache-2.0
"""The process that asks the host: a request as JSON on standard input, facts on standard output.

The request has the fields of a `Where`, and ``discovery`` if the GPUs are described for labels.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cdi_gen.errors import CdiGenError
from cdi_gen.host import Where, gather
from cdi_gen.host.properties import read_properties
from cdi_gen.host.where import roots
from cdi_gen.kubernetes.probe.facts import Facts


def main() -> None:
    """Write the facts, or the error that prevents them."""
    fields: dict[str, Any] = json.load(sys.stdin)
    for name in ("library_search_path", "config_search_path"):
        fields[name] = tuple(fields[name])
    discovery = fields.pop("discovery", None)
    try:
        document = _facts(Where(**fields), discovery).document()
    except CdiGenError as error:
        fields = {"message": error.message, "hint": error.hint, "code": error.code}
        fields |= {"subject": error.subject, "exit_code": error.exit_code}
        document = {"error": fields}
    json.dump(document, sys.stdout)


def _facts(where: Where, discovery: str | None) -> Facts:
    if discovery is None:
        inventory = gather(where)
        return Facts(inventory=inventory, properties=read_properties(inventory, roots(where)))
    from cdi_gen.host.description import describe  # noqa: PLC0415 - for labels only

    description = describe(where, discovery)
    return Facts(inventory=description.inventory, properties=description.properties)


if __name__ == "__main__":
    main()
