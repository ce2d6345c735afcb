# SPDX-License-Identifier: Apache-2.0
"""What the commands say when packages of the extra ``kubernetes`` are missing."""

from __future__ import annotations

import pytest

from cdi_gen.cli.kubernetes_options import require_packages
from cdi_gen.errors import CdiGenError


@pytest.mark.parametrize(
    ("modules", "missing"),
    [
        (("no_such_package", "no_such_package.child"), "no_such_package"),
        (("json", "json.no_such_module"), "json.no_such_module"),
    ],
    ids=["a package with its module", "a module of a package that is installed"],
)
def test_the_first_missing_module_is_named(modules: tuple[str, ...], missing: str) -> None:
    with pytest.raises(CdiGenError, match=f"the Python module {missing} is not installed") as error:
        require_packages(*modules)
    assert "EXTRAS=kubernetes" in (error.value.hint or "")


def test_installed_modules_are_no_error() -> None:
    require_packages("json", "json.decoder")
