# SPDX-License-Identifier: Apache-2.0
"""Makes the driver tree on this host, replaces it after a change of the driver, and removes it.

``cdi_gen.generate.driver_tree`` says what is in a tree. ``/run/cdi-gen/driver`` has a directory for
each tree, ``VERSION-DIGEST``, and ``current``, a link to the tree that containers get::

    made = make(driver_tree.layout(inventory, options))
    ...  # write the specs
    clean()

A tree never changes after it was made. Containers have their own clones of its mounts, so they keep
a tree that `clean` removes from the host.
"""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen.generate.driver_tree import ROOT, DriverTree
from cdi_gen.tree.directory import GRACE_SECONDS, SETTLE_SECONDS, Directory, Tree
from cdi_gen.tree.fingerprint import Fingerprint
from cdi_gen.tree.propagation import reaches_host

__all__ = [
    "GRACE_SECONDS",
    "ROOT",
    "SETTLE_SECONDS",
    "Made",
    "Tree",
    "clean",
    "current",
    "is_current",
    "make",
]
__all__ += ["reaches_host", "remove", "trees"]


class Made(NamedTuple):
    """The result of `make`."""

    tree: Tree
    changed: bool
    """Whether containers got another tree, or none, before."""


def make(tree: DriverTree, root: str = ROOT, *, settle: float = SETTLE_SECONDS) -> Made:
    """Make the tree the current one. The trees that were made before stay until `clean`.

    Callers wait for each other. The current tree is replaced in one step, after the new one was
    mounted for ``settle`` seconds; after an error it is the same as before.

    Raises:
        UnsafeError: a user other than root could change the directory.
        CdiGenError: the process is not root, a file of the driver is missing, or the system refuses
            a mount.
    """
    with Directory(root).locked() as directory:
        return Made(*directory.make(tree, settle))


def clean(root: str = ROOT, *, grace: float = GRACE_SECONDS) -> tuple[str, ...]:
    """Remove all trees but the current one, and what a killed process left; return their names.

    Containers that are being started may still need the tree that was current a moment ago: if
    there is a tree to remove, wait until the current one has been so for ``grace`` seconds.

    Raises:
        UnsafeError: a user other than root could change the directory.
        CdiGenError: the process is not root, or the system refuses.
    """
    with Directory(root).locked(create=False) as directory:
        return directory.clean(grace)


def remove(root: str = ROOT) -> tuple[str, ...]:
    """Remove all trees and the link to the current one; return the names of the trees.

    Raises:
        UnsafeError: a user other than root could change the directory.
        CdiGenError: the process is not root, or the system refuses.
    """
    with Directory(root).locked(create=False) as directory:
        return directory.remove()


def current(root: str = ROOT) -> Tree | None:
    """Return the tree that containers get; None if there is none."""
    return Directory(root).current()


def trees(root: str = ROOT) -> tuple[Tree, ...]:
    """Return all complete trees, the current one first."""
    return Directory(root).trees()


def is_current(tree: DriverTree, root: str = ROOT) -> bool:
    """Whether the current tree has this content, and the files of the host are still the same."""
    try:
        name = Fingerprint.of(tree).name
    except OSError:
        return False
    now = current(root)
    return now is not None and now.name == name
