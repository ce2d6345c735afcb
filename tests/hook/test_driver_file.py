# SPDX-License-Identifier: Apache-2.0
"""The option --host-driver-file gives the hook the driver's versions from a file of the host."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.hook.conftest import Container, Ended

DROP_IN = "etc/ld.so.conf.d/00-cdi-gen-compat.conf"
COMPAT = "usr/local/cuda/compat/libcuda.so.575.57.08"
"""A libcuda without a note: its version decides."""

OLDER, NEWER = "550.163.01", "580.65.06"


@pytest.fixture
def file(container: Container, tmp_path: Path) -> Path:
    """The file of a driver that needs the image's libcuda."""
    container.write(COMPAT, b"a library without a note")
    path = tmp_path / "driver.json"
    path.write_text(json.dumps({"format": 1, "driverVersion": OLDER, "cudaVersion": "12.4"}))
    return path


def run(container: Container, file: Path | str, *words: str) -> tuple[bool, Ended]:
    """Whether the image's libcuda is used."""
    ended = container.hook("enable-cuda-compat", f"--host-driver-file={file}", *words)
    container.assert_host_untouched()
    assert ended.said.count("\n") <= 1
    return (container.root / DROP_IN).exists(), ended


def test_the_version_decides_as_that_of_the_command_line(container: Container, file: Path) -> None:
    used, ended = run(container, file)
    assert (used, ended.status, ended.said) == (True, 0, "")
    file.write_text(json.dumps({"driverVersion": NEWER}))
    used, ended = run(container, file)
    assert (used, ended.status, ended.said) == (False, 0, "")


def test_a_version_of_the_command_line_takes_precedence(container: Container, file: Path) -> None:
    assert run(container, file, f"--host-driver-version={NEWER}")[0] is False


def test_in_create_container_the_file_requests_the_step(container: Container, file: Path) -> None:
    ended = container.hook("create-container", "--host-driver-file", str(file))
    assert (ended.status, ended.said) == (0, "")
    assert (container.root / DROP_IN).exists()


def test_requirements_are_checked_with_both_versions(container: Container, file: Path) -> None:
    environment = ["NVIDIA_REQUIRE_CUDA=cuda>=12.5"]
    config = {"root": {"path": "rootfs"}, "process": {"env": environment}}
    (container.bundle / "config.json").write_text(json.dumps(config))
    ended = container.hook("check-requirements", f"--host-driver-file={file}")
    assert ended.status == 1
    assert "cuda>=12.5 (this host: 12.4)" in ended.said
    file.write_text(json.dumps({"driverVersion": NEWER, "cudaVersion": "13.0"}))
    assert container.hook("check-requirements", f"--host-driver-file={file}").status == 0


def spoil(file: Path, how: str) -> None:
    """Make the file one that the hook must not use."""
    if how == "missing":
        file.unlink()
    elif how == "writable":
        file.chmod(0o666)
    elif how == "owner":
        os.chown(file, 12345, 0)
    elif how == "link":
        file.rename(file.with_name("other"))
        file.symlink_to("other")
    elif how == "pipe":
        file.unlink()
        os.mkfifo(file)
    elif how == "large":
        file.write_text(json.dumps({"driverVersion": OLDER, "x": "x" * (256 << 10)}))
    else:
        file.write_text(how)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "No such file or directory"),
        ("writable", "can be written to by others (mode 0666)"),
        ("owner", "belongs to user 12345"),
        ("link", "Too many levels of symbolic links"),
        ("pipe", "not a regular file"),
        ("large", "larger than 262144 bytes"),
        ("", "is not JSON"),
        ("[]", "is not one JSON object"),
        ('{"driverVersion": 550}', "'driverVersion' is not text"),
    ],
)
def test_a_file_that_cannot_be_used_does_not_stop_the_container(
    container: Container, file: Path, how: str, reason: str
) -> None:
    """The version is unknown then, and the driver's own libcuda is used."""
    if how == "owner" and os.geteuid() != 0:
        pytest.skip("needs root")
    spoil(file, how)
    used, ended = run(container, file)
    assert (used, ended.status) == (False, 0)
    assert reason in ended.said
    assert "not used" in ended.said
    assert ended.said.endswith("[CDG-K106]\n")


@pytest.mark.parametrize("path", ["driver.json", "", "/run/cdi-gen/\x1bdriver.json"])
def test_a_path_that_is_not_absolute_or_plain_is_wrong_usage(
    container: Container, path: str
) -> None:
    assert run(container, path)[1].status == 2


def test_a_version_that_is_not_one_is_unknown(container: Container, file: Path) -> None:
    file.write_text(json.dumps({"driverVersion": "$(reboot)", "cudaVersion": ""}))
    used, ended = run(container, file)
    assert (used, ended.status, ended.said) == (False, 0, "")


def test_a_file_of_the_image_is_not_read(container: Container, file: Path) -> None:
    """The path is the host's, whatever the image has there."""
    container.write(str(file).lstrip("/"), json.dumps({"driverVersion": NEWER}))
    assert run(container, file)[0] is True
