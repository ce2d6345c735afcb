# SPDX-License-Identifier: Apache-2.0
"""Values behave as the frozen dataclasses that the standard library would have compiled."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cdi_gen.cdi import model as cdi
from cdi_gen.cdi.model import Mount
from cdi_gen.inventory import CharDevice, Missing, StaleNode
from cdi_gen.inventory import model as inventory
from cdi_gen.values import Value

CLASSES = [
    kind
    for module in (cdi, inventory)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Value) and kind is not Value
]


def compiled(kind: type[Any]) -> type[Any]:
    """The class with methods that ``dataclass`` compiles."""
    return dataclasses.make_dataclass(
        kind.__name__, [(field.name, Any) for field in dataclasses.fields(kind)], frozen=True
    )


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_methods_are_those_of_a_dataclass(kind: type[Any]) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    one = kind(**dict.fromkeys(names, 1))
    same = kind(**dict.fromkeys(names, 1))
    assert one == same
    assert hash(one) == hash(same)
    assert repr(one) == repr(compiled(kind)(**dict.fromkeys(names, 1)))
    for name in names:
        other = dataclasses.replace(one, **{name: 2})
        assert one != other
        assert len({one, same, other}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one, names[0], 2)


def test_the_classes_are_found() -> None:
    assert {CharDevice, Missing, Mount, inventory.Inventory, cdi.Spec} <= set(CLASSES)


def test_values_of_two_classes_differ() -> None:
    library: object = Missing(name="a", reason="b", code="c")
    node: object = StaleNode(path="a", reason="b", code="c")
    assert library == Missing(name="a", reason="b", code="c")
    assert library != node
    assert library != ("a", "b", "c")
