# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen metrics --fields`` as a program."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.program import cdi_gen, failure


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The root of a host without a driver and without containers."""
    root = tmp_path / "host"
    (root / "proc").mkdir(parents=True)
    return root


def test_field_that_is_unknown_is_a_warning(host: Path, tmp_path: Path) -> None:
    file = tmp_path / "fields.csv"
    file.write_text("DCGM_FI_DEV_GPU_TEMP, gauge, x\nDCGM_EXP_P2P_STATUS, gauge, x\n")
    result = cdi_gen("metrics", "--once", "--host-root", str(host), "--fields", str(file))
    assert result.code == 0
    assert "cdi_gen_metrics_up 0\n" in result.out
    assert "CDG-O051" in result.err
    assert "line 2: DCGM_EXP_P2P_STATUS is skipped" in result.err


def test_file_may_be_a_link(host: Path, tmp_path: Path) -> None:
    """Kubernetes mounts the files of a ConfigMap as links."""
    (tmp_path / "target.csv").write_text("DCGM_FI_DEV_GPU_TEMP, gauge, x\n")
    link = tmp_path / "fields.csv"
    link.symlink_to("target.csv")
    result = cdi_gen("metrics", "--once", "--host-root", str(host), "--fields", str(link))
    assert result.code == 0
    assert "CDG-O05" not in result.err


def fifo(path: Path) -> None:
    os.mkfifo(path)


def large(path: Path) -> None:
    path.write_bytes(b"#" * ((1 << 20) + 1))


def malformed(path: Path) -> None:
    path.write_text("DCGM_FI_DEV_GPU_TEMP\n")


@pytest.mark.parametrize("make", [fifo, large, malformed, Path.mkdir, lambda path: None])
def test_file_that_cannot_be_used_is_an_error(
    host: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "fields.csv"
    make(path)
    result = cdi_gen("metrics", "--once", "--host-root", str(host), "--fields", str(path))
    assert "CDG-O050" in failure(result, 2)


def test_names_and_fields_do_not_fit_together(host: Path, tmp_path: Path) -> None:
    options = ("--once", "--names", "new", "--fields", str(tmp_path))
    result = cdi_gen("metrics", "--host-root", str(host), *options)
    assert "CDG-O155" in failure(result, 2)
