# SPDX-License-Identifier: Apache-2.0
"""The rule of enable-cuda-compat for combinations of library, host and GPU."""

from __future__ import annotations

import json

import pytest

from cdi_base import versions
from cdi_hook.steps import enable_cuda_compat
from tests.hook.test_cuda_compat import NOTE


@pytest.mark.parametrize(
    ("driver", "cuda", "brands", "compat", "note", "used"),
    [
        # With a note: the branch, then the version.
        ("550.163.01", "", [], "575.57.08", {}, True),
        ("535.104", "", [], "575.57.08", {}, True),
        ("545.23.08", "", [], "575.57.08", {}, False),
        ("580.65.06", "", [], "575.57.08", {}, False),
        ("575.51.03", "", [], "575.57.08", {}, True),
        ("575.57.08", "", [], "575.57.08", {}, False),
        ("575.64.03", "", [], "575.57.08", {}, False),
        ("575.57.8", "", [], "575.57.08", {}, False),
        ("550.163.01", "", [], "1.1", {}, False),
        # The GPUs, as the note has them.
        ("550.163.01", "", ["nvidia"], "575.57.08", {}, True),
        ("550.163.01", "", ["nvidia", "tesla", "nvidiartx"], "575.57.08", {}, True),
        ("550.163.01", "", ["geforce"], "575.57.08", {}, False),
        ("550.163.01", "", ["nvidia", "titan"], "575.57.08", {}, False),
        ("550.163.01", "", ["nvs"], "575.57.08", {}, False),
        ("550.163.01", "", ["geforce"], "575.57.08", {"device": []}, True),
        ("550.163.01", "", ["geforce"], "575.57.08", {"device": [5]}, True),
        ("550.163.01", "", ["nvidia"], "575.57.08", {"device": [5]}, False),
        ("550.163.01", "", [], "575.57.08", {"driver": []}, False),
        ("550.163.01", "", [], "575.57.08", {"driver": "550"}, False),
        ("550.163.01", "", [], "575.57.08", {"driver": ["550"]}, False),
        # CUDA's version counts only where one of the driver's is not known.
        ("550.163.01", "12.4", [], "575.57.08", {"driver": [535]}, False),
        ("575.57.08", "12.4", [], "575.57.08", {}, False),
        ("", "12.4", [], "575.57.08", {}, True),
        ("", "12.9", [], "575.57.08", {}, False),
        ("", "12.10", [], "575.57.08", {}, False),
        ("", "12.9", [], "575.57.08", {"CUDA Version": "12.10"}, True),
        ("", "13.0", [], "575.57.08", {"CUDA Version": "12.10"}, False),
        ("", "12.4", ["geforce"], "575.57.08", {}, False),
        ("rolling", "12.4", [], "575.57.08", {}, True),
        ("550.163.01", "12.4", [], "orin.x", {}, True),
        ("550.163.01", "", [], "orin.x", {}, False),
        ("", "12.4", [], "575.57.08", {"CUDA Version": 13}, False),
        ("", "12.4", [], "575.57.08", {"CUDA Version": None}, False),
        # Without one: the branch alone, and no GPU that CUDA would refuse.
        ("550.163.01", "", [], "575.57.08", None, True),
        ("550.163.01", "", [], "550.200", None, False),
        ("560.28.03", "", [], "550.163.01", None, False),
        ("550.163.01", "", ["nvidia", "tesla"], "575.57.08", None, True),
        ("550.163.01", "", ["geforce"], "575.57.08", None, False),
        ("550.163.01", "", ["tesla", "titan"], "575.57.08", None, False),
        ("550.163.01", "", ["geforcertx"], "575.57.08", None, False),
        ("550.163.01", "", ["titanrtx"], "575.57.08", None, False),
        ("", "12.4", [], "575.57.08", None, False),
        ("rolling", "12.4", [], "575.57.08", None, False),
        ("550.163.01", "12.4", [], "orin.x", None, False),
    ],
)
def test_compat_library_is_used_by_the_rule(
    driver: str,
    cuda: str,
    brands: list[str],
    compat: str,
    note: dict[str, object] | None,
    used: bool,
) -> None:
    """Rows of the table in docs/hooks.md; `note` is what differs from a real one."""
    host = enable_cuda_compat.prepare(
        {
            "--host-driver-version": [driver],
            "--host-cuda-version": [cuda],
            "--host-gpu-brand": brands,
            "--cuda-compat-container-root": [],
        }
    )
    parsed = None
    if note is not None:
        parsed = enable_cuda_compat.parse_note(json.dumps({**NOTE, **note}).encode())
        assert parsed is not None
    assert enable_cuda_compat.is_compatible(host, versions.parse(compat), parsed) is used
