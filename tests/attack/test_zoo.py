# SPDX-License-Identifier: Apache-2.0
"""Images as people have them, before the oracles: as they are, and with their own links led out."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.images import plant, replace, ways_to
from tests.attack.oracles import HarmError
from tests.attack.victim import Library, Victim
from tests.lab.zoo import ZOO

pytest_plugins = ["tests.lab.fixtures"]
pytestmark = pytest.mark.engine

CUDA_IMAGE = "cuda-devel"
LED_OUT = (
    "etc/ld.so.conf.d",
    "etc/alternatives/cuda",
    "usr/local/cuda",
    "usr/local/cuda-12.4/compat",
    "usr/local/cuda-12.4/compat/libcuda.so.1",
    "usr/local/cuda-12.4/targets/x86_64-linux/lib/stubs",
    "etc/ld.so.conf.d/000_cuda.conf",
    "etc/ld.so.conf.d/z-cuda-stubs.conf",
    "etc/ld.so.cache",
)
"""What a CUDA image has that the hook, or the loader's configuration, goes through."""


@pytest.fixture
def of(
    container: Victim, library: Library, files_of: Callable[[str], Path]
) -> Callable[[str], Victim]:
    """A container of an image, with a driver's library where the image has no folder."""

    def victim(image: str) -> Victim:
        shutil.rmtree(container.root)
        subprocess.run(["cp", "-a", files_of(image), container.root], check=True)
        library(container.root / "opt/odd/libcuda.so.550.1", "libcuda.so.1")
        return container

    return victim


@pytest.mark.parametrize("image", ZOO)
def test_an_image_as_it_is(of: Callable[[str], Victim], image: str) -> None:
    """Nothing is said; what has changed is documented; a second start costs no more memory."""
    victim = of(image)
    victim.attack(*Victim.FULL, measured=True).harmless(lines=0)
    victim.traced()
    victim.attack(*Victim.FULL).harmless(lines=0).audited()


@pytest.mark.parametrize("way", ["absolute", "relative", "magic", "cwd"])
@pytest.mark.parametrize("place", LED_OUT)
def test_a_link_of_a_cuda_image_leads_out(
    of: Callable[[str], Victim], place: str, way: str
) -> None:
    victim = of(CUDA_IMAGE)
    replace(victim.root / place, ways_to(victim.canary / "dir")[way])
    victim.all_but_the_root_read_only()
    victim.attack(*Victim.FULL).harmless(0, 1, lines=2)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("place", LED_OUT[4:])
def test_something_else_in_a_cuda_image(of: Callable[[str], Victim], place: str, kind: str) -> None:
    victim = of(CUDA_IMAGE)
    plant(victim.root / place, kind)
    victim.traced()
    victim.attack(*Victim.FULL).harmless(0, 1, lines=2).audited()


def test_the_control_is_led_out(of: Callable[[str], Victim]) -> None:
    victim = of(CUDA_IMAGE)
    replace(victim.root / LED_OUT[0], ways_to(victim.canary / "dir")["absolute"])
    victim.naive()
    with pytest.raises(HarmError, match="O-SENT"):
        victim.attack(*Victim.FULL).harmless(0, 1, lines=2)
