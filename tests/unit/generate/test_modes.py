# SPDX-License-Identifier: Apache-2.0
"""The registry of the modes of ``cdi-gen generate``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cdi_gen.errors import UsageError
from cdi_gen.generate import generate, generate_capabilities
from cdi_gen.generate.modes import MODULES, UNSUPPORTED, find
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory
from tests.host.looking import python


@pytest.fixture
def inventory(golden: Callable[[str], Inventory]) -> Inventory:
    return golden("flat-550-1gpu")


@pytest.mark.parametrize("name", ["auto", "nvml"])
def test_auto_and_nvml_are_the_gpus(name: str, inventory: Inventory) -> None:
    mode = find(name)
    assert mode.spec(inventory, Options()) == generate(inventory)
    assert (mode.class_, mode.transports) == ("gpu", False)


def test_cap_is_the_capabilities(inventory: Inventory) -> None:
    options = Options(class_="cap")
    assert find("cap").spec(inventory, options) == generate_capabilities(inventory, options)
    assert find("cap").class_ == "cap"


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_mode_of_nvidia_ctk_that_is_not_supported_is_named(name: str) -> None:
    with pytest.raises(UsageError, match="not supported by this version"):
        find(name)


@pytest.mark.parametrize("name", ["", "gpu", "../nvml", "transports"])
def test_an_unknown_mode_is_rejected_with_the_list(name: str) -> None:
    with pytest.raises(UsageError, match="unknown mode") as caught:
        find(name)
    assert caught.value.hint == f"the modes are {', '.join(MODULES)}"


def test_only_the_module_of_the_mode_is_imported() -> None:
    code = """
import sys
from cdi_gen.generate.modes import find
find("nvml")
assert "cdi_gen.generate.modes.transports" not in sys.modules
before = set(sys.modules)
import cdi_gen.generate.modes.transports
assert "cdi_gen.generate.modes.transports" in set(sys.modules) - before
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_transports_read_no_data_at_import() -> None:
    """The catalogue is read when a spec is made, and not when the module is imported."""
    code = """
import cdi_gen.generate.modes.transports
from cdi_gen.catalogue import catalogue
assert catalogue.cache_info().misses == 0
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
