# SPDX-License-Identifier: Apache-2.0
"""Options that public reports and compose files give beside a GPU: each container has it all the same."""

from __future__ import annotations

import pytest

from tests.engine.conftest import TWO_ENGINES
from tests.engine.machine import NVML_TEXT, Machine
from tests.lab.podman import Podman

pytestmark = [pytest.mark.engine, pytest.mark.host]

GPU = ("--device", "nvidia.com/gpu=0")
ICD = "/etc/vulkan/icd.d/nvidia_icd.json"
LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")

REPORTS = {
    # A service that may do nothing but its work.
    "Aureliolo/synthorg#1445 (2026)": (
        *("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"),
        "--user=65532:65532",
    ),
    # The file was mounted by hand, since the other toolkit had left it out.
    "NixOS/nixpkgs#383085 (2025)": (f"--volume=/opt{NVML_TEXT}:{ICD}:ro",),
    # DRM nodes by themselves too, as media servers and compositors are started.
    "cdpdriver/zendriver-docker#3 (2024)": ("--device=/dev/dri", "--device=/dev/nvidia-modeset"),
    # The same GPU by two names.
    "NVIDIA/gpu-operator#1578 (2025)": ("--device=nvidia.com/gpu=all",),
    "NVIDIA/nvidia-container-toolkit#176 (2023)": ("--privileged", "--net=host"),
    "podman-container-tools/podman#28436 (2026)": ("--security-opt=label=disable",),
    "vLLM and Steam by their manuals": ("--ipc=host", "--net=host", "--cap-add=SYS_ADMIN"),
    "a configuration in memory": ("--read-only", "--tmpfs=/etc", "--tmpfs=/run", "--tmpfs=/tmp"),
    "LD_LIBRARY_PATH of a conda image": ("--env=LD_LIBRARY_PATH=/opt/conda/lib:/usr/lib:/lib64",),
}


@TWO_ENGINES
@pytest.mark.parametrize("mode", ["auto", "none"])
@pytest.mark.parametrize("report", REPORTS)
def test_the_container_has_its_gpu(
    machine: Machine, podman: Podman, report: str, mode: str
) -> None:
    if podman.user and "--privileged" in REPORTS[report]:
        pytest.skip("this machine's rootless engines may not mount sysfs")
    machine.serve(nvidia=machine.generate(f"--hooks={mode}"))
    found = podman.ask(
        "debian",
        ("who", *LIBRARIES),
        ("open", "/dev/nvidia0", "/dev/nvidiactl"),
        ("read", ICD),
        options=(*GPU, *REPORTS[report]),
    )
    for name in LIBRARIES:
        assert found["who", name][0] == "ok", found
    for node in ("/dev/nvidia0", "/dev/nvidiactl"):
        assert found["open", node] == ("ENXIO",), found
    if "tmpfs=/etc" not in " ".join(REPORTS[report]):
        assert "libGLX_nvidia.so.0" in found["read", ICD][0]
