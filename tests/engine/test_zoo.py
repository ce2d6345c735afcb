# SPDX-License-Identifier: Apache-2.0
"""The images of the zoo are as hard on a GPU container as they are said to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.engines import Inside, Lab
from tests.lab.podman import Podman
from tests.lab.probe import Answers
from tests.lab.zoo import ZOO

pytest_plugins = ["tests.lab.fixtures"]
pytestmark = pytest.mark.engine

STUB = "/usr/local/cuda/lib64/stubs/libcuda.so.1"


@pytest.fixture(scope="module")
def inside(lab_of: Callable[[str], Lab], zoo_archives: dict[str, Path]) -> Iterator[Inside]:
    binds = {f"/zoo/{name}.tar": archive for name, archive in zoo_archives.items()}
    with lab_of("trixie").enter(binds=binds) as inside:
        yield inside


@pytest.fixture(scope="module")
def ask(inside: Inside) -> Callable[..., Answers]:
    podman = Podman(inside)
    loaded = set()

    def ask(image: str, *questions: tuple[str, ...]) -> Answers:
        if image not in loaded:
            podman.load(f"/zoo/{image}.tar")
            loaded.add(image)
        return podman.ask(image, *questions)

    return ask


Ask = Callable[..., Answers]


@pytest.mark.parametrize("image", ZOO)
def test_every_image_starts_with_its_environment(ask: Ask, image: str) -> None:
    environment = ZOO[image].configuration.environment
    found = ask(image, ("env", *environment), ("stat", "/proc/self"), ("who", "libc.so.6"))
    assert found["who", "libc.so.6"][0] == "ok"
    for name, value in environment.items():
        got = found["env", name]
        assert got[0] == "set"
        # The entrypoint of one image puts a folder before it.
        assert got[1].endswith(value) if image == "service" else got[1] == value
    user = {"nonroot": "65532", "service": "1000"}.get(image, "0")
    assert found["stat", "/proc/self"][2] == user


@pytest.mark.parametrize(
    ("image", "where", "says"),
    [
        ("cuda-base", None, ""),
        ("cuda-runtime", None, ""),
        ("cuda-devel", STUB, "stub"),
        ("cuda-compat", "/usr/local/cuda/compat/libcuda.so.1", "compat 570.124.06"),
        ("cuda-rockylinux", "/usr/local/cuda-12.4/compat/libcuda.so.1", "compat 550.54.15"),
        # An empty file is passed over, here by a loader that finds no other.
        ("committed", None, ""),
        ("pytorch", None, ""),
    ],
)
def test_which_libcuda_an_image_finds_by_itself(
    ask: Ask, image: str, where: str | None, says: str
) -> None:
    """Without a GPU: what the driver's own must go before."""
    found = ask(image, ("who", "libcuda.so.1"), ("listed", "libcuda.so.1"))
    if where is None:
        assert found["who", "libcuda.so.1"][0] == "fail"
        assert found["listed", "libcuda.so.1"] == ("none",)
    else:
        assert found["who", "libcuda.so.1"][:2] == ("ok", where)
        assert found["who", "libcuda.so.1"][3] == says
        assert found["listed", "libcuda.so.1"] == (where,)


@pytest.mark.parametrize("image", ["pytorch", "large-bullseye", "large-rhel"])
def test_a_large_image_has_more_libraries_than_most(ask: Ask, image: str) -> None:
    """And the loader takes one of a better processor's folder, where it knows of such folders."""
    last = "libzoo1599.so.1"
    found = ask(image, ("who", "libzoo0000.so.1", last), ("listed", last))
    folder = "/usr/lib64" if image == "large-rhel" else "/lib/x86_64-linux-gnu"
    assert found["listed", last][0].removeprefix("/usr") == f"{folder}/{last}".removeprefix("/usr")
    assert found["who", last][0] == "ok"
    level = found["who", "libzoo0000.so.1"][3]
    if image == "large-bullseye":
        assert level == "baseline"
    else:
        assert level in {"x86-64-v2", "x86-64-v3"}


def test_the_loaders_of_graphics_are_the_images_own(ask: Ask) -> None:
    libraries = (
        *("libGL.so.1", "libEGL.so.1", "libGLX.so.0", "libGLESv2.so.2", "libOpenGL.so.0"),
        *("libgbm.so.1", "libvulkan.so.1", "libvdpau.so.1"),
    )
    found = ask("graphics", ("who", *libraries))
    assert [found["who", name][0] for name in libraries] == ["ok"] * len(libraries), found


def test_an_entrypoint_and_a_preloaded_library(ask: Ask) -> None:
    found = ask("service", ("env", "LD_LIBRARY_PATH", "LD_PRELOAD"), ("read", "/proc/1/comm"))
    assert found["env", "LD_LIBRARY_PATH"][1].startswith("/usr/local/cuda/lib64:/usr/local/nvidia")
    assert found["env", "LD_PRELOAD"][1] == "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
    assert found["read", "/proc/1/comm"] == ("tini\n",)
    maps = ask("nonroot", ("read", "/proc/self/maps", "/proc/1/comm"))
    assert "libjemalloc.so.2" in maps["read", "/proc/self/maps"][0]
    assert maps["read", "/proc/1/comm"] == ("tini-static\n",)
