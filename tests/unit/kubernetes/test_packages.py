# SPDX-License-Identifier: Apache-2.0
"""What the commands say when packages of the extra ``kubernetes`` are missing."""

from __future__ import annotations

import sys

import pytest

from cdi_gen.cli.kubernetes_options import require_packages
from cdi_gen.errors import CdiGenError
from tests.cli.program import cdi_gen


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


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("grpc", ("device-plugin",)),
        ("google", ("nri",)),
        ("google", ("toolkit", "--enable-nri-plugin")),
        ("prometheus_client", ("device-plugin", "--metrics-address=:9400")),
        ("urllib3", ("device-plugin", "--config-directory=/", "--node-name=n", "--kubeconfig=/k")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_command_without_a_package_ends_with_a_sentence(
    missing: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    ended = cdi_gen("kubernetes", *words)
    assert ended.code == 1
    assert f"the Python module {missing} is not installed [CDG-N001]" in ended.err
    assert "EXTRAS=kubernetes" in ended.err
    assert "Traceback" not in ended.err
