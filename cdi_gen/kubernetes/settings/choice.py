# SPDX-License-Identifier: Apache-2.0
"""Which of several config files a node uses, as NVIDIA's config-manager chooses."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cdi_gen.errors import CdiGenError

LABEL = "nvidia.com/device-plugin.config"
"""The label of a node whose value is the name of a config file."""

NAMED, SINGLE, EMPTY = "named", "single", "empty"
FALLBACKS = (NAMED, SINGLE, EMPTY)
"""What is tried without a label and a default: the file ``default``, the only file, no file."""

NAMED_FALLBACK = "default"


class ChoiceError(CdiGenError):
    """No config file can be chosen."""

    code = "CDG-N120"


def choose(
    label: str, names: Collection[str], default: str = "", fallbacks: Sequence[str] = ()
) -> str | None:
    """Return the name of the config file to use; None: none is used.

    Args:
        label: the value of the node's label; empty: the node has none.
        names: the config files that there are.
        default: the file of nodes without a label; empty: the fallbacks decide.
        fallbacks: words of `FALLBACKS`, the first one that leads to a result decides.

    Raises:
        ChoiceError: the file that is named does not exist, or no fallback leads to one.
    """
    chosen = label or default
    if chosen:
        if chosen not in names:
            source = "the label of the node" if label else "--default-config"
            raise ChoiceError(
                f"{source} names the config {chosen}, which does not exist",
                hint=f"name one of {_list(names)}, or add the config",
                subject=chosen,
            )
        return chosen
    for fallback in fallbacks:
        if fallback == EMPTY:
            return None
        if fallback == NAMED and NAMED_FALLBACK in names:
            return NAMED_FALLBACK
        if fallback == SINGLE and len(names) == 1:
            return next(iter(names))
    raise ChoiceError(
        f"the node has no label that names a config, and no default decides; there are "
        f"{_list(names)}",
        hint=f"label the node with {LABEL}=NAME, or give --default-config NAME",
    )


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "no configs"
