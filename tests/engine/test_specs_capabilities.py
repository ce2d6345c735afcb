# SPDX-License-Identifier: Apache-2.0
"""Driver capabilities as devices: a lean GPU, and beside it what the container needs."""

from __future__ import annotations

import posixpath

import pytest

from tests.engine.conftest import TWO_ENGINES
from tests.engine.expected import control_nodes, gpu_nodes
from tests.engine.machine import NVIDIA_SMI, Machine
from tests.lab.podman import Podman

pytestmark = [pytest.mark.engine, pytest.mark.host]

LIBRARIES = "/usr/lib/x86_64-linux-gnu"
GPU = ("--device", "nvidia.com/gpu=0")
UVM = ("/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
MODESET = ("/dev/nvidia-modeset",)

FILES = {
    "cuda": f"{LIBRARIES}/libcuda.so.1",
    "cuvid": f"{LIBRARIES}/libnvcuvid.so.1",
    "glx": f"{LIBRARIES}/libGLX_nvidia.so.0",
    "vulkan": "/etc/vulkan/icd.d/nvidia_icd.json",
    "egl": "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    "cuda32": "/usr/lib/i386-linux-gnu/libcuda.so.1",
}
GIVEN = {
    "": ((), ()),
    "utility": ((), ()),
    "compute": (("cuda",), UVM),
    "video": (("cuda", "cuvid"), UVM),
    "graphics": (("glx", "vulkan", "egl"), MODESET),
    "compat32": (("cuda32",), ()),
    "compute graphics": (("cuda", "glx", "vulkan", "egl"), (*UVM, *MODESET)),
}
"""Devices of kind nvidia.com/cap: what of FILES they bring to a lean container, and which nodes."""


@TWO_ENGINES
@pytest.mark.parametrize(
    ("asked", "hooks"), [*((asked, "auto") for asked in GIVEN), ("compute graphics", "none")]
)
def test_a_lean_gpu_and_capabilities(
    machine: Machine, podman: Podman, asked: str, hooks: str
) -> None:
    mode = f"--hooks={hooks}"
    machine.serve(
        nvidia=machine.generate("--capabilities", "utility", mode),
        capabilities=machine.generate("--mode", "cap", mode),
    )
    options = [f"--device=nvidia.com/cap={each}" for each in asked.split()]
    files, nodes = GIVEN[asked]
    at = FILES if hooks == "auto" else {name: without_hook(path) for name, path in FILES.items()}
    questions = ("find", "/dev"), ("stat", *at.values()), ("dlopen", "libnvidia-ml.so.1")
    answers = podman.ask("debian", *questions, options=[*GPU, *options])
    assert {name for name, path in at.items() if answers["stat", path][0] == "f"} == set(files)
    control = control_nodes(machine.fake.kernel)
    wanted = {path: control[path] for path in ("/dev/nvidiactl", *nodes)}
    assert machine.added_nodes(podman, answers) == wanted | gpu_nodes(
        machine.gpu(0), hooked=hooks == "auto"
    )
    assert answers["dlopen", "libnvidia-ml.so.1"][0] == "ok"


def without_hook(path: str) -> str:
    """Where a file is that would be elsewhere with a hook: in a folder that loaders search."""
    folder, name = posixpath.split(path)
    moved = {LIBRARIES: "/usr/lib64", "/usr/lib/i386-linux-gnu": "/usr/lib32"}
    return f"{moved.get(folder, folder)}/{name}"


def test_the_loader_is_told_of_what_was_composed(machine: Machine, podman: Podman) -> None:
    """Only the GPU's spec has a hook; it serves the libraries of the other as well."""
    machine.serve(
        nvidia=machine.generate("--capabilities", "utility"),
        capabilities=machine.generate("--mode", "cap"),
    )
    names = ("libcuda.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1")
    options = [*GPU, "--device", "nvidia.com/cap=video"]
    for image in ("rhel", "distroless"):
        answers = podman.ask(image, ("dlopen", *names), options=options)
        assert {answer[0] for answer in answers.values()} == {"ok"}


def test_a_lean_gpu_alone_is_enough_for_nvidia_smi(machine: Machine, podman: Podman) -> None:
    machine.serve(nvidia=machine.generate("--capabilities", "utility"))
    command = ("localhost/rhel", "nvidia-smi", "-L")
    assert machine.gpu(0).uuid in podman("run", "--rm", *GPU, *NVIDIA_SMI, *command).stdout
