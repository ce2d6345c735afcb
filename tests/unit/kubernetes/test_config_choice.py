# SPDX-License-Identifier: Apache-2.0
"""Which config file a node uses."""

from __future__ import annotations

import pytest

from cdi_gen.kubernetes.settings.choice import ChoiceError, choose

NAMES = ("a100", "default", "t4")


@pytest.mark.parametrize(
    ("label", "names", "default", "fallbacks", "chosen"),
    [
        pytest.param("t4", NAMES, "a100", ("named",), "t4", id="the label wins"),
        pytest.param("", NAMES, "a100", ("named",), "a100", id="then the default"),
        pytest.param("", NAMES, "", ("single", "named"), "default", id="then the named file"),
        pytest.param("", ("only",), "", ("named", "single"), "only", id="then the single file"),
        pytest.param("", ("a", "b"), "", ("named", "single", "empty"), None, id="then no file"),
        pytest.param("", NAMES, "", ("empty", "named"), None, id="in the order of the fallbacks"),
    ],
)
def test_the_choice(
    label: str, names: tuple[str, ...], default: str, fallbacks: tuple[str, ...], chosen: str | None
) -> None:
    assert choose(label, names, default, fallbacks) == chosen


@pytest.mark.parametrize(
    ("label", "names", "default", "fallbacks", "message"),
    [
        pytest.param("v100", NAMES, "t4", ("empty",), "label of the node names", id="label"),
        pytest.param("", NAMES, "v100", ("empty",), "--default-config names", id="default"),
        pytest.param("", ("a", "b"), "", ("named", "single"), "there are a, b", id="fallbacks"),
        pytest.param("", (), "", ("named", "single"), "there are no configs", id="nothing"),
    ],
)
def test_a_choice_without_a_file_is_an_error(
    label: str, names: tuple[str, ...], default: str, fallbacks: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ChoiceError, match=message):
        choose(label, names, default, fallbacks)
