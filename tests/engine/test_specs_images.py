# SPDX-License-Identifier: Apache-2.0
"""Hosts of every layout with images of every other, and with images that have a libcuda already."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import machine as machines
from tests.engine.machine import Machine
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.lab.engines import Lab
from tests.lab.podman import Podman
from tests.lab.probe import Answers

pytestmark = [pytest.mark.engine, pytest.mark.host]

GPU = ("--device", "nvidia.com/gpu=0")
DEBIAN, RED_HAT, ARCH = "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"
HOSTS = {
    "550-1gpu": DEBIAN,
    "550-debian": f"{DEBIAN}/nvidia/current",
    "550-lib64": RED_HAT,
    "550-arch": ARCH,
    "550-usr-local": "/usr/local/nvidia/lib64",
}
"""By name, with the directory in which libcuda is."""

Ask = Callable[..., Answers]


@pytest.fixture(scope="module")
def ask(
    lab_of: Callable[[str], Lab],
    image_archives: dict[str, Path],
    zoo_archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ask]:
    """Ask a container of an image on a host, with a spec of either form."""
    folder = tmp_path_factory.mktemp("hosts")
    archives = {f"/zoo/{name}.tar": archive for name, archive in zoo_archives.items()}
    with contextlib.ExitStack() as entered:

        @functools.cache
        def machine(name: str) -> Machine:
            try:
                fake = machines.prepare(name, folder / name)
            except DriverRootUnavailableError as error:
                pytest.skip(f"no fake host {name}: {error}")
            place = machines.enter(lab_of("trixie"), fake, image_archives["all"], shown=archives)
            return entered.enter_context(place)

        @functools.cache
        def loaded(podman: Podman, image: str) -> bool:
            if image in zoo_archives:
                podman.load(f"/zoo/{image}.tar")
            return True

        def ask(host: str, mode: str, image: str, *questions: tuple[str, ...]) -> Answers:
            place = machine(host)
            podman = place.podman("crun", 0)
            place.serve(nvidia=place.generate(f"--hooks={mode}"))
            assert loaded(podman, image)
            return podman.ask(image, *questions, options=GPU)

        yield ask


MODES = pytest.mark.parametrize("mode", ["auto", "none"])
EVERY_HOST = pytest.mark.parametrize("host", HOSTS)


@MODES
@EVERY_HOST
@pytest.mark.parametrize(
    ("image", "directory"), [("graphics", DEBIAN), ("rhel", RED_HAT), ("graphics", ARCH)]
)
def test_modules_are_where_libraries_of_the_image_open_them(
    ask: Ask, host: str, mode: str, image: str, directory: str
) -> None:
    """As libgbm does, and libvdpau: dlopen of a path below their own directory."""
    gbm, vdpau = f"{directory}/gbm/nvidia-drm_gbm.so", f"{directory}/vdpau/libvdpau_nvidia.so.1"
    found = ask(host, mode, image, ("dlopen", gbm, vdpau))
    assert found["dlopen", gbm] == ("ok", gbm)
    # The small image lacks libX11, which this one needs: then it was found, and its need was not.
    if image == "graphics":
        assert found["dlopen", vdpau] == ("ok", vdpau)
    else:
        assert found["dlopen", vdpau][0] == "ok" or not found["dlopen", vdpau][1].startswith(vdpau)


@MODES
@pytest.mark.parametrize("host", ["550-1gpu", "550-lib64", "550-arch"])
@pytest.mark.parametrize("directory", ["/usr/lib64/xorg/modules", "/usr/lib/xorg/modules"])
def test_modules_of_the_x_server_are_in_both_its_directories(
    ask: Ask, host: str, mode: str, directory: str
) -> None:
    paths = (
        f"{directory}/drivers/nvidia_drv.so",
        f"{directory}/extensions/libglxserver_nvidia.so",
    )
    found = ask(host, mode, "graphics", ("dlopen", *paths))
    # They need the X server's own symbols, which come with it.
    for path in paths:
        result, said = found["dlopen", path]
        assert result == "ok" or "undefined symbol" in said, said


@MODES
@EVERY_HOST
@pytest.mark.parametrize("image", ["debian", "rhel", "alpine"])
def test_one_variable_says_where_libcuda_is(ask: Ask, host: str, mode: str, image: str) -> None:
    """Scripts test -e "$NVIDIA_CTK_LIBCUDA_DIR/libcuda.so.1"."""
    name = "NVIDIA_CTK_LIBCUDA_DIR"
    directory = HOSTS[host] if mode == "auto" else "/usr/lib64"
    library = f"{directory}/libcuda.so.1"
    found = ask(
        host, mode, image, ("env", name), ("dlopen", library), ("env", "TRITON_LIBCUDA_PATH")
    )
    assert found["env", name] == ("set", directory)
    assert found["dlopen", library] == ("ok", library)
    triton = ("set", directory) if mode == "none" else ("unset",)
    assert found["env", "TRITON_LIBCUDA_PATH"] == triton


@pytest.mark.parametrize("host", ["550-1gpu", "550-lib64"])
@pytest.mark.parametrize(
    "image",
    [
        *("cuda-base", "cuda-runtime", "cuda-devel", "cuda-compat", "cuda-rockylinux"),
        *("committed", "pytorch", "service"),
    ],
)
def test_without_a_hook_the_driver_goes_before_what_images_bring(
    ask: Ask, host: str, image: str
) -> None:
    """Compat libraries and stubs that an image lists, and what a former driver left in it."""
    names = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1")
    found = ask(host, "none", image, ("who", *names, "libnvidia-nvvm.so.4"))
    for name in names:
        result, _, _, says = found["who", name]
        # The libraries of the images say who they are; the driver's do not.
        assert (result, says) == ("ok", ""), found
    # Nor is the rest of an image's set taken, which would not fit.
    assert found["who", "libnvidia-nvvm.so.4"][3:] == ("",), found
