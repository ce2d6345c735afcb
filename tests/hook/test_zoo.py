# SPDX-License-Identifier: Apache-2.0
"""Images like those of users: the libcuda and NVML that the image's own loader finds.

Both libraries are the driver's, whatever the image configures for its loader and wherever the host
has the driver, except for a newer libcuda of the image that the host's GPUs support.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hook.conftest import Container
from tests.lab import cuda
from tests.lab.probe import Answers, answers, probe
from tests.lab.zoo import ZOO

pytest_plugins = ["tests.lab.fixtures"]
pytestmark = pytest.mark.engine

FOLDERS = {
    "Debian": "/usr/lib/x86_64-linux-gnu",
    "Red Hat": "/usr/lib64",
    "Arch": "/usr/lib",
    "operator": "/usr/lib/x86_64-linux-gnu/nvidia/current",
}
"""The directories of the driver on hosts, and in their containers."""

VERSION = "550.163.01"
LIBCUDA, NVML, COMPILER = "libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1"
DRIVER = "driver"
"""The text that the driver's libraries return."""

ASKED = tuple(probe(("who", LIBCUDA, NVML, COMPILER), ("listed", LIBCUDA, NVML)))

GEFORCE = ("--host-cuda-version", "12.4", "--host-gpu-brand", "geforce")

NEWER = {"cuda-runtime": "compat 580.82.07", "cuda-compat": "compat 570.124.06"}
"""Images that have a libcuda that is newer than the host's."""

IMAGES = [name for name in ZOO if name not in {"graphics", "large-bullseye", "large-rhel"}]


AGAIN = 'env -u PWD -u OLDPWD "$@" < "$B/state" || status=$?'
LDCONFIG = '/usr/sbin/chroot "$R" /sbin/ldconfig 2>/dev/null'


class Started:
    """A container of an image, with the driver's libraries mounted at the paths of the host."""

    def __init__(self, container: Container, image: str, files: Path, folder: str) -> None:
        self.container = container
        self.image = image
        self.folder = folder
        shutil.rmtree(container.root)
        subprocess.run(["cp", "-a", files, container.root], check=True)
        (container.bundle / "state").write_bytes(container.state())
        self.mounts = [
            f"R={shlex.quote(str(container.root))} B={shlex.quote(str(container.bundle))}"
        ]
        for soname in (LIBCUDA, NVML, COMPILER):
            source = container.bundle / "driver" / _file_of(soname)
            cuda.library(source, soname, DRIVER)
            point = container.root / folder.lstrip("/") / source.name
            point.parent.mkdir(parents=True, exist_ok=True)
            point.touch()
            self.mounts.append(f'mount --bind "$B/driver/{source.name}" "$R{folder}/{source.name}"')

    def hook(self, *more: str, then: str = "", asked: tuple[str, ...] = ASKED) -> Answers:
        """Run the hook, then a script, and ask a program that has the image's environment."""
        environment = ZOO[self.image].configuration.environment
        given = [f"{name}={value}" for name, value in environment.items() if name != "LD_PRELOAD"]
        probe_it = shlex.join(
            ["env", "-i", *given, "/usr/sbin/chroot", str(self.container.root), *asked]
        )
        self.container.with_mounts("\n".join(self.mounts), f'{then}\n{probe_it}\nexit "$status"')
        links = [
            word
            for soname in (LIBCUDA, NVML, COMPILER)
            for word in ("--link", f"{_file_of(soname)}::{self.folder}/{soname}")
        ]
        words = ("--folder", self.folder, "--host-driver-version", VERSION, *more)
        ended = self.container.hook("create-container", *links, *words)
        assert (ended.status, ended.said) == (0, "")
        return answers(ended.stdout)


def _file_of(soname: str) -> str:
    return f"{soname.removesuffix('.1')}.{VERSION}"


@pytest.fixture
def started(
    container: Container, files_of: Callable[[str], Path], request: pytest.FixtureRequest
) -> Started:
    return Started(container, request.param[0], files_of(request.param[0]), request.param[1])


def of(images: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "started",
        [(image, folder) for image in images for folder in FOLDERS.values()],
        ids=[f"{image}-{host}" for image in images for host in FOLDERS],
        indirect=True,
    )


def drivers_own(answers: Answers, folder: str, image: str) -> None:
    """All three are the driver's, and `ldconfig -p` names the same files first."""
    for name in (LIBCUDA, NVML, COMPILER):
        assert answers["who", name][0] == "ok", answers
        assert answers["who", name][2:] == (f"{folder}/{_file_of(name)}", DRIVER), answers
    if image != "nonroot":  # it has no ldconfig
        for name in (LIBCUDA, NVML):
            assert answers["listed", name] == (answers["who", name][1],)


@of(IMAGES)
def test_the_drivers_own_come_first(started: Started) -> None:
    """The GPUs do not support a newer libcuda of the image. A second start changes nothing."""
    answers = started.hook(*GEFORCE, then=AGAIN)
    drivers_own(answers, started.folder, started.image)


@of([*NEWER])
def test_newer_libcuda_of_the_image_is_used_if_supported(started: Started) -> None:
    """All other libraries are still the driver's."""
    answers = started.hook("--host-cuda-version", "12.4", "--host-gpu-brand", "nvidia")
    assert answers["who", LIBCUDA][3] == NEWER[started.image]
    assert answers["listed", LIBCUDA] == (answers["who", LIBCUDA][1],)
    assert answers["who", NVML][3] == DRIVER


@of(["cuda-devel", "cuda-compat", "cuda-rockylinux", "committed"])
def test_a_later_ldconfig_keeps_the_drivers_own_first(started: Started) -> None:
    """`apt install` in a container runs the image's ldconfig, which reads the files of the hook."""
    answers = started.hook(*GEFORCE, then=LDCONFIG)
    drivers_own(answers, started.folder, started.image)


@of(["large-bullseye", "pytorch", "large-rhel"])
def test_a_large_image_keeps_its_libraries(started: Started) -> None:
    """Also libraries in glibc-hwcaps directories, if the image's loader supports them."""
    names = [f"libzoo{number:04}.so.1" for number in (0, 1, 800, 1599)]
    words = tuple(probe(("who", *names), ("listed", *names)))
    root = str(started.container.root)
    alone = subprocess.run(
        ["/usr/sbin/chroot", root, *words], check=True, capture_output=True, text=True
    ).stdout
    assert started.hook(asked=words) == answers(alone)


def test_the_requirements_of_images_hold_on_the_host(container: Container) -> None:
    """NVIDIA_REQUIRE_CUDA of each image holds on the test hosts."""
    for name, image in ZOO.items():
        environment = image.configuration.environment
        config = {
            "root": {"path": "rootfs"},
            "process": {"env": [f"{k}={v}" for k, v in environment.items()]},
        }
        (container.bundle / "config.json").write_text(json.dumps(config))
        ended = container.hook(
            "check-requirements",
            "--host-driver-version",
            VERSION,
            "--host-cuda-version",
            "12.4",
            "--gpu",
            "0:9.0:nvidia",
        )
        assert (ended.status, ended.said) == (0, ""), name
