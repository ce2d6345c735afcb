# SPDX-License-Identifier: Apache-2.0
"""``unresolvable CDI devices``: what Podman does not say, with a real Podman."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import debian
from tests.lab.engines import Lab
from tests.pains import gpu_lab, pain
from tests.pains.gpu_lab import SPEC, GpuLab

ALL = "nvidia.com/gpu=all"
UNRESOLVABLE = f"unresolvable CDI devices {ALL}"
EVERY_GPU = ("open", "/dev/nvidia0", "/dev/nvidia7")


@pytest.fixture(scope="module")
def podman_4(
    lab_of: Callable[[str], Lab],
    image_archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GpuLab]:
    """Podman 4.3 of Debian 12, run by root."""
    folder = tmp_path_factory.mktemp("podman4") / "host"
    with gpu_lab.entered(lab_of("bookworm"), folder, image_archives["all"]) as lab:
        yield lab


@pytest.fixture(scope="module")
def rootless(
    lab_of: Callable[[str], Lab],
    image_archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GpuLab]:
    """Podman 5.4 of Debian 13, run by a user."""
    folder = tmp_path_factory.mktemp("podman5") / "host"
    lab = lab_of("trixie")
    with gpu_lab.entered(lab, folder, image_archives["all"], user=debian.USER) as entered:
        yield entered


def fails(lab: GpuLab, device: str = ALL) -> None:
    """The pain: Podman names the device, and no cause."""
    ended = lab.start("--device", device)
    assert ended.returncode != 0
    assert f"unresolvable CDI devices {device}" in ended.stderr
    assert "/etc/cdi" not in ended.stderr


def works(lab: GpuLab, device: str = ALL) -> None:
    answer = lab.ask("--device", device, ask=EVERY_GPU)
    assert answer["open", "/dev/nvidia0"][0] == "ENXIO", "the node is there, and no driver"
    assert lab.why(device).outcome == "works"


@pain(
    14,
    UNRESOLVABLE,
    command=f"cdi-gen why {ALL}",
    codes=("CDG-F102",),
)
def test_two_files_define_the_device(podman_4: GpuLab) -> None:
    """A spec by hand, and another by a unit, in one directory."""
    podman_4.clear()
    podman_4.serve(podman_4.generate(), "/etc/cdi/nvidia-by-hand.json")
    podman_4.inside.run(["touch", "-d", "2025-01-01", "/etc/cdi/nvidia-by-hand.json"])
    podman_4.serve(podman_4.generate())
    fails(podman_4)
    finding = podman_4.why(ALL).finding("CDG-F102")
    assert "/etc/cdi/nvidia-by-hand.json and /etc/cdi/nvidia.json" in finding.message
    assert finding.fix == "sudo rm /etc/cdi/nvidia-by-hand.json"
    podman_4.follow(finding.fix)
    works(podman_4)


@pain(
    14,
    UNRESOLVABLE,
    command=f"cdi-gen why {ALL}",
    codes=("CDG-S003",),
)
def test_the_file_was_cut_off(podman_4: GpuLab) -> None:
    """The disk was full, or the command of a redirection failed."""
    podman_4.clear()
    podman_4.serve(podman_4.generate()[:4000])
    fails(podman_4)
    finding = podman_4.why(ALL).finding("CDG-S003")
    assert f"podman 4.3.1 ignores {SPEC}" in finding.message
    podman_4.follow(finding.fix)
    works(podman_4)


@pain(
    15,
    UNRESOLVABLE,
    command=f"cdi-gen why {ALL}",
    codes=("CDG-S303",),
)
def test_the_spec_is_too_new_for_podman(podman_4: GpuLab) -> None:
    """nvidia-ctk since 1.19 writes additionalGids, which forces CDI 0.7.0."""
    podman_4.clear()
    document = json.loads(podman_4.generate())
    document["cdiVersion"] = "0.7.0"
    for device in document["devices"]:
        device["containerEdits"]["additionalGids"] = [44]
    podman_4.serve(json.dumps(document), "/etc/cdi/nvidia.yaml")
    fails(podman_4)
    finding = podman_4.why(ALL).finding("CDG-S303")
    assert "it claims CDI 0.7.0, and podman 4.3.1 reads CDI up to 0.5.0" in finding.message
    podman_4.follow(finding.fix)
    works(podman_4)


@pain(
    16,
    f"{UNRESOLVABLE} (rootless)",
    command=f"cdi-gen why {ALL}",
    codes=("CDG-F107",),
)
def test_the_spec_is_closed_to_the_user(rootless: GpuLab) -> None:
    """Written by root with umask 077; it works for root."""
    rootless.clear()
    rootless.serve(rootless.generate(), mode=0o600)
    fails(rootless)
    finding = rootless.why(ALL).finding("CDG-F107")
    assert f"(rootless, user) cannot read {SPEC}: Permission denied" in finding.message
    rootless.follow(finding.fix)
    works(rootless)


@pain(
    18,
    "unresolvable CDI devices nvidia.com/gpu=gpu0",
    command="cdi-gen why nvidia.com/gpu=gpu0",
    codes=("CDG-Y007",),
)
def test_the_name_is_of_another_naming_scheme(podman_4: GpuLab) -> None:
    podman_4.clear()
    podman_4.serve(podman_4.generate())
    fails(podman_4, "nvidia.com/gpu=gpu1")
    finding = podman_4.why("nvidia.com/gpu=gpu1").finding("CDG-Y007")
    option, name = finding.fix.split()
    assert (option, name) == ("--device", "nvidia.com/gpu=1")
    answer = podman_4.ask(*finding.fix.split(), ask=("open", "/dev/nvidia0", "/dev/nvidia1"))
    assert answer["open", "/dev/nvidia1"][0] == "ENXIO"
    assert answer["open", "/dev/nvidia0"][0] == "ENOENT"


@pain(
    30,
    "mounts the whole driver into every container",
    command="cdi-gen why nvidia.com/gpu=0 -o json",
    codes=("CDG-Y013",),
)
def test_a_container_gets_more_than_it_needs(podman_4: GpuLab) -> None:
    podman_4.clear()
    podman_4.serve(podman_4.generate())
    before = _libraries(podman_4)
    assert {"libnvidia-glcore.so.550.163.01", "libcuda.so.550.163.01"} <= before
    finding = podman_4.why("nvidia.com/gpu=0").finding("CDG-Y013")
    assert "files of the driver; compute and utility need" in finding.message
    podman_4.follow(finding.fix)
    after = _libraries(podman_4)
    assert "libnvidia-glcore.so.550.163.01" not in after
    assert "libcuda.so.550.163.01" in after
    assert len(after) < len(before) - 20
    codes = {finding.code for finding in podman_4.why("nvidia.com/gpu=0").findings}
    assert "CDG-Y013" not in codes


def _libraries(lab: GpuLab) -> set[str]:
    """The files in the container's directory of libraries."""
    directory = "/usr/lib/x86_64-linux-gnu"
    return {*lab.ask("--device", "nvidia.com/gpu=0", ask=("ls", directory))["ls", directory]}


@pain(
    32,
    "eglQueryDevicesEXT lists GPUs that the container did not request",
    command="cdi-gen why nvidia.com/gpu=0",
    codes=("CDG-Y014",),
    simulated=True,
)
def test_graphics_look_for_all_gpus(rootless: GpuLab) -> None:
    """The profile by which the driver's EGL knows its GPUs is not in the container."""
    rootless.clear()
    rootless.serve(rootless.generate("--hooks=none"))
    assert not _has_profile(rootless)
    finding = rootless.why("nvidia.com/gpu=0").finding("CDG-Y014")
    assert f"all 8 GPUs of the host: {SPEC} has no hook" in finding.message
    rootless.follow(finding.fix)
    assert _has_profile(rootless)
    codes = {finding.code for finding in rootless.why("nvidia.com/gpu=0").findings}
    assert "CDG-Y014" not in codes


def _has_profile(lab: GpuLab) -> bool:
    path = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"
    answer = lab.ask("--device", "nvidia.com/gpu=0", ask=("stat", path))
    return answer["stat", path][0] == "f"
