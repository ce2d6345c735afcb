# SPDX-License-Identifier: Apache-2.0
"""The CUDA version of an image, by everything that names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdi_gen.compat import cuda_files
from cdi_gen.compat.image_facts import image_facts, required_cuda, stated_facts
from cdi_gen.images.archive import open_archive
from tests.unit.images import layered

PACKAGES = "usr/local/lib/python3.12/dist-packages"
CONDA = "opt/conda/conda-meta/cuda-cudart-12.4.127-h99ab3db_0.json"


@pytest.mark.parametrize(
    ("files", "environment", "cuda", "source"),
    [
        ({}, {"CUDA_VERSION": "12.4.1"}, "12.4.1", "CUDA_VERSION"),
        (
            *({}, {"NVIDIA_REQUIRE_CUDA": "cuda>=12.8 brand=tesla,driver>=535"}),
            *("12.8", "NVIDIA_REQUIRE_CUDA"),
        ),
        (
            *({"usr/local/cuda/version.json": b'{"cuda": {"version": "12.8.1"}}'}, {}),
            *("12.8.1", "/usr/local/cuda/version.json"),
        ),
        (
            *({"usr/local/cuda/version.txt": b"CUDA Version 10.2.89\n"}, {}),
            *("10.2", "/usr/local/cuda/version.txt"),
        ),
        (
            *({"usr/local/cuda-12.6/lib64/libcudart.so.12.6.77": b""}, {}),
            *("12.6", "/usr/local/cuda-12.6/lib64/libcudart.so.12.6.77"),
        ),
        (
            *({f"{PACKAGES}/nvidia_cuda_runtime_cu12-12.8.90.dist-info/METADATA": b""}, {}),
            *("12.8", f"/{PACKAGES}/nvidia_cuda_runtime_cu12-12.8.90.dist-info"),
        ),
        (
            *({f"{PACKAGES}/torch/version.py": b"cuda: Optional[str] = '12.6'\nhip = None\n"}, {}),
            *("12.6", f"/{PACKAGES}/torch/version.py"),
        ),
        ({CONDA: b"{}"}, {}, "12.4", f"/{CONDA}"),
        # The newest counts: a wheel of CUDA 12.8 in an image of CUDA 12.4.
        (
            *({f"{PACKAGES}/nvidia_cuda_runtime_cu12-12.8.90.dist-info/METADATA": b""},),
            *({"CUDA_VERSION": "12.4.1"}, "12.8"),
            f"/{PACKAGES}/nvidia_cuda_runtime_cu12-12.8.90.dist-info",
        ),
        ({"usr/local/cuda/version.json": b"[]", "usr/lib/libcudart.so.12": b""}, {}, None, ""),
    ],
)
def test_cuda_version(
    tmp_path: Path,
    files: dict[str, str | bytes],
    environment: dict[str, str],
    cuda: str | None,
    source: str,
) -> None:
    path = layered.files_archive(tmp_path / "image.tar", files, environment)
    with open_archive(str(path)) as image:
        facts = image_facts(image)
    assert (facts.cuda, facts.cuda_source) == (cuda, source)


def test_variable_with_very_many_directories() -> None:
    """Each directory is looked for in each layer."""
    environment = {"PATH": ":".join(f"/{number}" for number in range(100_000))}
    directories = cuda_files.path_variable(environment, "PATH")
    assert directories == [f"/{number}" for number in range(cuda_files.MAX_DIRECTORIES)]
    assert cuda_files.path_variable({"PATH": "/a:/b:/a"}, "PATH") == ["/a", "/b"]


def test_compat_library_is_found_through_links(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "usr/local/cuda": "/etc/alternatives/cuda",
        "etc/alternatives/cuda": "/usr/local/cuda-12.4",
        "usr/local/cuda-12.4/compat/libcuda.so.550.54.15": b"no ELF",
        "usr/local/cuda-12.4/compat/libcuda.so.1": "libcuda.so.550.54.15",
    }
    path = layered.files_archive(tmp_path / "image.tar", files, {})
    with open_archive(str(path)) as image:
        (library,) = image_facts(image).compat
    assert library.path == "/usr/local/cuda/compat/libcuda.so.550.54.15"
    assert (library.version, library.note) == ("550.54.15", None)


@pytest.mark.parametrize(
    ("expression", "cuda"),
    [
        ("cuda>=12.8 brand=tesla,driver>=535,driver<536", "12.8"),
        ("driver>=570,cuda>=12.8", "12.8"),
        ("cuda<13", None),
        ("brand=tesla", None),
        ("cuda>=new", None),
        ("", None),
    ],
)
def test_cuda_version_of_an_expression(expression: str, cuda: str | None) -> None:
    assert required_cuda(expression) == cuda


def test_facts_that_a_user_states() -> None:
    facts = stated_facts("12.8", None)
    assert (facts.cuda, facts.requirements) == ("12.8", ())
    facts = stated_facts(None, "cuda>=13.0")
    assert (facts.cuda, facts.requirements[0]) == ("13.0", ("NVIDIA_REQUIRE_CUDA", "cuda>=13.0"))
