# SPDX-License-Identifier: Apache-2.0
"""The tables of toolkits, branches and GPUs agree with each other."""

from __future__ import annotations

import datetime as dt

import pytest

from cdi_base import versions
from cdi_gen.catalogue import catalogue
from cdi_gen.compat import data, device_code
from cdi_gen.compat.facts import DeviceCode


def test_first_drivers_rise_with_the_version_of_cuda() -> None:
    drivers = [versions.parse(driver) for driver in data.first_drivers().values()]
    assert drivers == sorted(drivers, key=lambda numbers: numbers or ())
    assert list(data.first_drivers()) == sorted(data.first_drivers())


def test_first_driver_of_a_toolkit_supports_it() -> None:
    """The catalogue has the CUDA version of each branch; 375 and 367 both have 8.0."""
    for cuda, driver in data.first_drivers().items():
        assert data.branch_cuda(versions.parse(driver) or ()) == cuda


def test_each_branch_with_a_date_has_a_cuda_version_or_is_newer_than_the_catalogue() -> None:
    newest = max(map(int, catalogue().cuda_versions))
    assert {n for n in data.branches() if str(n) not in catalogue().cuda_versions} <= {
        n for n in data.branches() if n > newest
    }


@pytest.mark.parametrize(
    ("model", "capability"),
    [
        ("Tesla P40", "6.1"),
        ("Tesla V100-SXM2-32GB", "7.0"),
        ("Tesla T4", "7.5"),
        ("NVIDIA A100-SXM4-80GB", "8.0"),
        ("NVIDIA A10", "8.6"),
        ("NVIDIA L40S", "8.9"),
        ("NVIDIA GeForce RTX 4090", "8.9"),
        ("NVIDIA RTX 6000 Ada Generation", "8.9"),
        ("NVIDIA H100 80GB HBM3", "9.0"),
        ("NVIDIA H200", "9.0"),
        ("NVIDIA GB200", "10.0"),
        ("NVIDIA B200", "10.0"),
        ("NVIDIA GeForce RTX 5090", "12.0"),
        ("Quadro RTX 6000", "7.5"),
        ("Graphics Device", None),
        ("", None),
    ],
)
def test_compute_capability_by_model(model: str, capability: str | None) -> None:
    number = data.model_capability(model)
    assert (None if number is None else data.text(number)) == capability


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (0x1B38, "Pascal"),
        (0x2335, "Hopper"),
        (0x102D, "Kepler"),
        (0x2901, "Blackwell"),
        (0x1, None),
    ],
)
def test_architecture_by_pci_device(device: int, name: str | None) -> None:
    capability = data.pci_capability(device)
    architecture = None if capability is None else data.architecture(capability)
    assert (None if architecture is None else architecture.name) == name


def test_life_of_a_branch() -> None:
    today = dt.date(2026, 11, 30)
    assert data.branches()[535].has_ended(today)
    assert not data.branches()[580].has_ended(today)
    assert data.branches()[550].has_ended(today)


def test_each_table_has_a_source_and_a_date() -> None:
    files = {source.file for source in data.sources()}
    assert files == {"cuda_toolkits.json", "driver_branches.json", "gpu_support.json"}
    assert all(
        source.source and source.age_days(dt.date(2027, 1, 1)) > 0 for source in data.sources()
    )


@pytest.mark.parametrize(
    ("cubins", "ptx", "capability", "support"),
    [
        (["sm_80"], [], (8, 0), "machine"),
        (["sm_80"], [], (8, 6), "machine"),
        (["sm_86"], [], (8, 0), "nothing"),
        (["sm_80"], [], (9, 0), "nothing"),
        (["sm_90a"], [], (9, 0), "machine"),
        (["sm_100a"], [], (10, 3), "nothing"),
        (["sm_100f"], [], (10, 3), "machine"),
        (["sm_120"], [], (12, 1), "machine"),
        (["sm_80"], ["compute_80"], (9, 0), "ptx"),
        ([], ["compute_90a"], (10, 0), "nothing"),
        ([], ["compute_90"], (8, 0), "nothing"),
        (["sm_"], ["compute_x"], (8, 0), "nothing"),
    ],
)
def test_code_for_a_compute_capability(
    cubins: list[str], ptx: list[str], capability: tuple[int, int], support: str
) -> None:
    code = DeviceCode(path="/lib.so", cubins=tuple(cubins), ptx=tuple(ptx))
    assert device_code.support(code, capability) == support
