# SPDX-License-Identifier: Apache-2.0
"""Images as people have them get the driver's libraries, whatever they list, set and start."""

from __future__ import annotations

import pytest

from tests.engine.conftest import TWO_ENGINES, Engine
from tests.engine.expected import sonames
from tests.engine.machine import Machine
from tests.lab import debian
from tests.lab.podman import Podman
from tests.lab.zoo import ZOO

pytestmark = [pytest.mark.engine, pytest.mark.host]

GPU = ("--device", "nvidia.com/gpu=0")
LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1")
READ_ONLY = ("cuda-devel", "cuda-rockylinux", "nonroot")
"""Images of which containers are started that may not write to their files."""
NEWER = {"cuda-runtime": "compat 580.82.07", "cuda-compat": "compat 570.124.06"}
"""A libcuda of the image that is newer than the host's, and may be used with its GPUs."""


@pytest.mark.parametrize(
    ("engine", "mode"),
    [(Engine("bookworm", "runc", 0), "none"), (Engine("trixie", "crun", debian.USER), "auto")],
    indirect=["engine"],
    ids=["none", "auto"],
)
@pytest.mark.parametrize("image", ZOO)
def test_a_program_gets_the_drivers_own(
    machine: Machine, podman: Podman, image: str, mode: str
) -> None:
    """By the image's own loader, with its own environment, entrypoint and user."""
    machine.serve(nvidia=machine.generate(f"--hooks={mode}"))
    machine.load(podman, image)
    found = podman.ask(
        image,
        ("who", *LIBRARIES),
        ("listed", *LIBRARIES[:2]),
        ("open", "/dev/nvidia0"),
        options=(*GPU, *(("--read-only",) if image in READ_ONLY else ())),
    )
    # Without a hook nobody decides: what is in the image's LD_LIBRARY_PATH comes first.
    newer = NEWER.get(image, "") if mode == "auto" else ""
    assert found["open", "/dev/nvidia0"] == ("ENXIO",)
    for name in LIBRARIES:
        status, path, _, says = found["who", name]
        assert status == "ok", found
        # What comes with a newer libcuda goes with it: all but NVML.
        assert says == ("" if name == "libnvidia-ml.so.1" else newer), found
        if mode == "auto" and name in LIBRARIES[:2] and image != "nonroot":  # it has no ldconfig
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
