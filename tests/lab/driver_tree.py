# SPDX-License-Identifier: Apache-2.0
"""Makes the driver tree of a fake host inside a lab, as ``cdi-gen refresh`` would."""

from __future__ import annotations

from tests.host.looking import REPOSITORY
from tests.lab.engines import Inside, Started

SOURCES = "/usr/src/cdi-gen"
BINDS = {SOURCES: REPOSITORY}
"""What the lab has to be entered with."""

_IMPORTS = f"""
import sys
sys.path[:0] = {[f"{SOURCES}/{folder}" for folder in (".", "hooks", "specs")]!r}
from cdi_gen import tree
from cdi_gen.generate import Options
from cdi_gen.generate.driver_tree import layout
from cdi_gen.inventory import json_form
"""

_MAKE = """
options = Options(form="tree", hooks=sys.argv[1] == "auto")
print(tree.make(layout(json_form.load(sys.stdin.read()), options)).tree.path)
tree.clean(grace=float(sys.argv[2]))
"""


def make(inside: Inside, inventory: str, hooks: str = "auto", *, grace: float = 0) -> str:
    """Make the tree of a host whose files the lab has at the inventory's paths.

    Args:
        inside: a lab that was entered with ``BINDS``.
        inventory: what ``cdi-gen inventory`` says of the host.
        hooks: of the specs that will mount the tree, ``auto`` or ``none``.
        grace: the seconds that the former tree is kept.

    Returns:
        The tree's path in the lab.
    """
    return _run(inside, _MAKE, hooks, str(grace), stdin=inventory).strip()


_ALTERNATE = """
inventory = json_form.load(open(sys.argv[1]).read())
contents = [layout(inventory, Options(form="tree", hooks=hooks)) for hooks in (True, False)]
while True:
    for content in contents:
        print(tree.make(content).tree.name, flush=True)
        tree.clean()
"""


def alternate(inside: Inside, inventory: str, log: str) -> Started:
    """Start to replace the tree by another one again and again; the log has the name of each."""
    inside.write("/run/inventory.json", inventory)
    command = ["python3", "-I", "-S", "-c", _IMPORTS + _ALTERNATE, "/run/inventory.json"]
    return inside.start(command, log=log)


def remove(inside: Inside) -> None:
    """Remove all trees."""
    _run(inside, "tree.remove()")


def _run(inside: Inside, program: str, *words: str, stdin: str = "") -> str:
    command = ["python3", "-I", "-S", "-c", _IMPORTS + program, *words]
    return inside.run(command, stdin=stdin).stdout
