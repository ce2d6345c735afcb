# SPDX-License-Identifier: Apache-2.0
"""Programs of the tests that developers run by hand."""

from __future__ import annotations

import sys

import pytest

from tests.lab.kubernetes import __main__ as kubernetes_lab


def test_help_of_the_kubernetes_lab_builds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newcomer asked for help, and the build of an hour began."""

    def build() -> None:
        raise AssertionError("a part is built")

    monkeypatch.setattr(kubernetes_lab, "_parts", lambda: {"part": build})
    monkeypatch.setattr(sys, "argv", ["kubernetes", "--help"])
    with pytest.raises(SystemExit) as ended:
        kubernetes_lab.main()
    assert ended.value.code == 0
    assert "Build all that the Kubernetes lab needs" in capsys.readouterr().out


def test_an_argument_of_the_kubernetes_lab_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_lab, "_parts", dict)
    monkeypatch.setattr(sys, "argv", ["kubernetes", "kubelet"])
    with pytest.raises(SystemExit, match="2"):
        kubernetes_lab.main()
