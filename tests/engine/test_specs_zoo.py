# SPDX-License-Identifier: Apache-2.0
"""Images as people have them get the driver's libraries, whatever they list, set and start."""

from __future__ import annotations

import pytest

from tests.engine.conftest import TWO_ENGINES
from tests.engine.expected import sonames
from tests.engine.machine import Machine
from tests.lab.podman import Podman
from tests.lab.zoo import ZOO

pytestmark = [pytest.mark.engine, pytest.mark.host]

GPU = ("--device", "nvidia.com/gpu=0")
LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1")
NEWER = {"cuda-runtime": "compat 580.82.07", "cuda-compat": "compat 570.124.06"}
"""A libcuda of the image that is newer than the host's, and may be used with its GPUs."""


@TWO_ENGINES
@pytest.mark.parametrize("image", ZOO)
def test_a_program_gets_the_drivers_own(machine: Machine, podman: Podman, image: str) -> None:
    """By the image's own loader, with its own environment, entrypoint and user."""
    machine.serve(nvidia=machine.generate())
    machine.load(podman, image)
    found = podman.ask(
        image,
        ("who", *LIBRARIES),
        ("listed", *LIBRARIES[:2]),
        ("open", "/dev/nvidia0"),
        options=GPU,
    )
    assert found["open", "/dev/nvidia0"] == ("ENXIO",)
    for name in LIBRARIES:
        status, path, _, says = found["who", name]
        assert status == "ok", found
        # What comes with a newer libcuda goes with it: all but NVML.
        assert says == ("" if name == "libnvidia-ml.so.1" else NEWER.get(image, "")), found
        if name in LIBRARIES[:2] and image != "nonroot":  # it has no ldconfig
            assert found["listed", name] == (path,)


@TWO_ENGINES
def test_an_image_with_the_loaders_of_graphics_loads_all_of_the_driver(
    machine: Machine, podman: Podman
) -> None:
    machine.serve(nvidia=machine.generate())
    machine.load(podman, "graphics")
    # One needs OpenSSL, which the image has not.
    names = [name for name in sonames(machine.inventory) if "pkcs11" not in name]
    found = podman.ask("graphics", ("who", *names), options=GPU)
    failed = {name: found["who", name][1] for name in names if found["who", name][0] != "ok"}
    assert failed == {}
