# SPDX-License-Identifier: Apache-2.0
"""The drop-in for a configuration that a distribution generates and that imports a directory.

k3s and RKE2 of 2025 and later generate a configuration with
``imports = [".../config-v3.toml.d/*.toml"]``. An edit of the generated file is lost, a file in that
directory is not.
"""

from __future__ import annotations

from cdi_gen.engines import facts
from cdi_gen.engines.containerd.daemons import is_generated
from cdi_gen.engines.containerd.imports import value_at
from cdi_gen.engines.facts import Distribution
from cdi_gen.engines.text import toml_text
from cdi_gen.paths import base_name, beneath, join, parent


def imported_drop_in(path: str, text: str | None, distribution: Distribution | None) -> str | None:
    """The path of our drop-in; None if the file is not generated or imports no directory.

    Args:
        path: of the configuration.
        text: of the configuration; None if it does not exist.
        distribution: the distribution that the file belongs to.
    """
    if text is None or not is_generated(path, text, distribution):
        return None
    imports = value_at(toml_text.parse(text, path), ("imports",))
    for entry in imports if isinstance(imports, list) else []:
        directory = parent(str(entry))
        is_own = beneath(directory, parent(path)) not in {None, "/"}
        if base_name(str(entry)) == "*.toml" and is_own:
            return join(directory, base_name(facts.containerd().drop_in))
    return None
