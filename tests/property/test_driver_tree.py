# SPDX-License-Identifier: Apache-2.0
"""From any inventory comes a driver tree that has all that the spec mounts, or one error."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from cdi_gen.cdi.validation import check
from cdi_gen.errors import CdiGenError
from cdi_gen.generate import generate
from cdi_gen.generate.driver_tree import CURRENT, DriverTree, layout
from cdi_gen.generate.options import TREE, Options
from cdi_gen.inventory import Inventory
from tests.property import inventories


def directories(tree: DriverTree) -> set[str]:
    """The directories of a tree, and the tree itself."""
    paths = [*(file.path for file in tree.files), *(link.path for link in tree.links)]
    parts = [path.split("/") for path in paths]
    return {"", *("/".join(words[:end]) for words in parts for end in range(len(words)))}


CAPABILITIES = st.sampled_from(["all", "compute", "utility", "graphics", "display", "compat32"])


@given(
    inventories.sound() | inventories.hostile(),
    st.booleans(),
    st.lists(CAPABILITIES, min_size=1, unique=True),
)
def test_the_tree_has_what_the_spec_mounts(
    inventory: Inventory, hooks: bool, capabilities: list[str]
) -> None:
    options = Options(form=TREE, hooks=hooks, capabilities=tuple(capabilities))
    try:
        spec = generate(inventory, options)
    except CdiGenError:
        return
    assert not [problem for problem in check(spec) if problem.severity != "warning"]
    tree = layout(inventory, options)
    event(f"{bool(tree.files)}, {len(spec.container_edits.hooks)} hooks")
    names = {file.path for file in tree.files} | {link.path for link in tree.links}
    assert len(names) == len(tree.files) + len(tree.links)
    for mount in spec.container_edits.mounts:
        if mount.host_path.startswith(CURRENT):
            path = mount.host_path.removeprefix(CURRENT).lstrip("/")
            assert path in names | directories(tree)
    # A file cannot be where another one needs a directory.
    assert not names & directories(tree)
    assert not [name for name in names if ".." in name.split("/") or name.startswith("/")]
