# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen doctor --image``: what keeps an image's programs from the GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doctor.examining import document, examine
from tests.unit.images import layered

GLIBC = "lib64/ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
WHOLE: dict[str, str | bytes] = {
    GLIBC: b"ELF",
    f"{LIBRARIES}/libGL.so.1": b"ELF",
    f"{LIBRARIES}/libEGL.so.1": b"ELF",
    f"{LIBRARIES}/libXext.so.6": b"ELF",
    f"{LIBRARIES}/libvulkan.so.1": b"ELF",
    "etc/os-release": b"ID=debian\n",
}
COMPAT = "usr/local/cuda-12.4/compat/libcuda.so.550.54.15"
CUDA: dict[str, str | bytes] = {"usr/local/cuda": "cuda-12.4"}


@pytest.mark.parametrize(
    ("check", "files", "environment", "code", "words", "fix"),
    [
        ("image-loader", {"bin/true": b""}, {}, "CDG-M031", "no dynamic loader", "FROM debian"),
        (
            *("image-loader", {"lib/ld-musl-x86_64.so.1": b""}, {}, "CDG-M031"),
            *("the image has musl (/lib/ld-musl-x86_64.so.1)", "apk add gcompat"),
        ),
        (
            "image-loader-path",
            {**CUDA, COMPAT: b""},
            {"LD_LIBRARY_PATH": "/opt/lib:/usr/local/cuda/compat"},
            "CDG-M110",
            "LD_LIBRARY_PATH has /usr/local/cuda/compat",
            "ENV LD_LIBRARY_PATH=",
        ),
        (
            "image-loader-path",
            {**CUDA, COMPAT: b"", "etc/ld.so.conf.d/cuda.conf": b"/usr/local/cuda-12.4/compat\n"},
            {},
            "CDG-M110",
            "/etc/ld.so.conf.d/cuda.conf has /usr/local/cuda-12.4/compat",
            "RUN rm /etc/ld.so.conf.d/cuda.conf && ldconfig",
        ),
        (
            "image-loader-path",
            {**CUDA, "usr/local/cuda-12.4/lib64/stubs/libcuda.so": b""},
            {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64/stubs"},
            "CDG-M034",
            "is a stub for linking",
            "ENV LD_LIBRARY_PATH=",
        ),
        (
            "image-driver-libraries",
            {f"{LIBRARIES}/libnvidia-ml.so.535.161.07": b"ELF"},
            {},
            "CDG-M035",
            "libraries of driver 535.161.07",
            "purge",
        ),
        (
            "image-graphics",
            {GLIBC: b"", "etc/os-release": b'ID_LIKE="rhel fedora"\n'},
            {"NVIDIA_DRIVER_CAPABILITIES": "all"},
            "CDG-M032",
            "lacks libGL.so.1, libEGL.so.1, libXext.so.6, libvulkan.so.1",
            "dnf install -y libglvnd-glx libglvnd-egl libXext vulkan-loader",
        ),
        (
            "image-capabilities",
            {f"{LIBRARIES}/libavcodec.so.59": b""},
            {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"},
            "CDG-M036",
            "have no video libraries",
            "-e NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
        ),
    ],
)
def test_fault_of_an_image(
    tmp_path: Path,
    check: str,
    files: dict[str, str | bytes],
    environment: dict[str, str],
    code: str,
    words: str,
    fix: str,
) -> None:
    image = layered.files_archive(tmp_path / "image.tar", files, environment)
    finding = examine(tmp_path, check, "--image", str(image)).finding(code)
    assert words in finding.message
    assert fix in finding.fix


def test_image_without_fault(tmp_path: Path) -> None:
    environment = {"NVIDIA_DRIVER_CAPABILITIES": "all"}
    image = layered.files_archive(tmp_path / "image.tar", WHOLE, environment)
    checks = document(tmp_path, "images", "--image", str(image))["checks"]
    assert {check["name"]: check["status"] for check in checks} == {
        "image-cuda": "ok",
        "image-loader": "ok",
        "image-graphics": "ok",
        "image-loader-path": "ok",
        "image-driver-libraries": "ok",
        "image-capabilities": "ok",
    }


def test_without_an_image_no_check_applies(tmp_path: Path) -> None:
    checks = document(tmp_path, "images")["checks"]
    assert {check["status"] for check in checks} == {"not-applicable"}


def test_image_that_cannot_be_read_is_not_visible(tmp_path: Path) -> None:
    result = examine(tmp_path, "image-loader", "--image", str(tmp_path / "nowhere.tar"))
    assert result.status == "unseen"
    assert "nowhere.tar: No such file or directory" in result.line
