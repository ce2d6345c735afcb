# SPDX-License-Identifier: Apache-2.0
"""Images that lack something, bring too much, or are too new for the driver."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.cli.program import cdi_gen
from tests.doctor.examining import examine
from tests.host.looking import REPOSITORY
from tests.pains import pain
from tests.unit.images import layered

LIBRARIES = "usr/lib/x86_64-linux-gnu"
BASE: dict[str, str | bytes] = {
    "lib64/ld-linux-x86-64.so.2": b"ELF",
    "etc/os-release": b"ID=ubuntu\nID_LIKE=debian\n",
}
FILES_OF_PACKAGES = {
    "libgl1": "libGL.so.1",
    "libegl1": "libEGL.so.1",
    "libxext6": "libXext.so.6",
    "libvulkan1": "libvulkan.so.1",
}
"""What the packages of Debian and Ubuntu install in /usr/lib."""


@pain(
    26,
    "libEGL.so.1: cannot open shared object file; glxinfo: couldn't find RGB GLX visual",
    command="cdi-gen doctor images --image IMAGE",
    codes=("CDG-M032",),
    simulated=True,
)
def test_image_without_the_libraries_of_no_vendor(tmp_path: Path) -> None:
    environment = {"NVIDIA_DRIVER_CAPABILITIES": "graphics"}
    image = layered.files_archive(tmp_path / "image.tar", BASE, environment)
    finding = examine(tmp_path, "image-graphics", "--image", str(image)).finding("CDG-M032")
    assert "libEGL.so.1" in finding.message
    assert "although the GPU is there" in finding.message

    # The line of the Dockerfile, followed.
    packages = re.match(r"RUN apt-get install -y ([\w ]+?) {2,}", finding.fix)
    assert packages, finding.fix
    names = [FILES_OF_PACKAGES[package] for package in packages[1].split()]
    files = BASE | {f"{LIBRARIES}/{name}": b"ELF" for name in names}
    mended = layered.files_archive(tmp_path / "mended.tar", files, environment)
    assert examine(tmp_path, "image-graphics", "--image", str(mended)).status == "ok"


@pain(
    23,
    "docker run --gpus all: Cannot load libnvcuvid.so.1",
    command="cdi-gen doctor images --image IMAGE",
    codes=("CDG-M036",),
    simulated=True,
)
def test_image_does_not_ask_for_video(tmp_path: Path) -> None:
    files = BASE | {f"{LIBRARIES}/libavcodec.so.59": b"ELF"}
    environment = {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    image = layered.files_archive(tmp_path / "image.tar", files, environment)
    finding = examine(tmp_path, "image-capabilities", "--image", str(image)).finding("CDG-M036")
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in finding.message

    name, value = finding.fix.removeprefix("-e ").split()[0].split("=")
    mended = layered.files_archive(tmp_path / "mended.tar", files, {name: value})
    assert examine(tmp_path, "image-capabilities", "--image", str(mended)).status == "ok"


@pain(
    29,
    "Failed to initialize NVML: Driver/library version mismatch (only in this image)",
    command="cdi-gen doctor images --image IMAGE",
    codes=("CDG-M035",),
    simulated=True,
)
def test_image_brings_libraries_of_another_driver(tmp_path: Path) -> None:
    """As an image that was committed from a container of another host."""
    former = f"{LIBRARIES}/libcuda.so.535.161.07"
    image = layered.files_archive(tmp_path / "image.tar", BASE | {former: b"ELF"}, {})
    check = "image-driver-libraries"
    finding = examine(tmp_path, check, "--image", str(image)).finding("CDG-M035")
    assert f"libraries of driver 535.161.07 (/{former})" in finding.message
    assert "build it from a Dockerfile" in finding.fix

    built = layered.files_archive(tmp_path / "built.tar", BASE, {})
    assert examine(tmp_path, check, "--image", str(built)).status == "ok"


@pain(
    57,
    "CUDA driver version is insufficient for CUDA runtime version (35); "
    "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.4",
    command="cdi-gen compat --archive FILE",
    codes=("CDG-M004", "CDG-M019"),
    simulated=True,
)
def test_image_is_too_new_for_the_driver(tmp_path: Path) -> None:
    old = f"{REPOSITORY}/specs/golden/debian-bookworm-tesla-470-2gpu/inventory.json"
    image = layered.docker_archive(tmp_path / "image.tar")
    command = ("compat", "--archive", str(image), "-o", "json", "--inventory")
    result = cdi_gen(*command, old)
    answer = json.loads(result.out)
    assert (result.code, answer["verdict"]) == (1, "no")
    assert answer["requirement"]["verdict"] == "unsatisfied"
    reason = answer["reasons"][0]
    assert reason["code"] == "CDG-M004"
    assert "driver 470.256.02 supports CUDA up to 11.4" in reason["message"]

    # Both ways that the fix names: an older image on this host, a newer driver.
    needed, older = re.match(
        r"install driver ([\d.]+) or newer, or use an image with CUDA ([\d.]+) or older",
        reason["fix"],
    ).groups()  # type: ignore[union-attr]
    assert cdi_gen("compat", "--cuda", older, "--inventory", old).code == 0
    updated = tmp_path / "updated.json"
    document = json.loads(Path(old).read_text(encoding="utf-8"))
    document["driver"] |= {"version": needed, "libraryVersion": needed}
    document["driver"].pop("cudaVersion", None)
    updated.write_text(json.dumps(document))
    answer = json.loads(cdi_gen(*command, str(updated)).out)
    assert (answer["verdict"], answer["requirement"]["verdict"]) == ("native", "satisfied")


@pain(
    57,
    "CUDA driver version is insufficient for CUDA runtime version (35); "
    "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.4",
    command="cdi-gen compat --cuda VERSION --require STRING",
    codes=("CDG-M019",),
    simulated=True,
)
def test_requirement_refuses_an_image_that_runs() -> None:
    inventory = f"{REPOSITORY}/specs/golden/debian-bookworm-tesla-470-2gpu/inventory.json"
    command = ("compat", "--cuda", "11.8", "--require", "cuda>=11.8", "-o", "json")
    result = cdi_gen(*command, "--inventory", inventory)
    answer = json.loads(result.out)
    assert (result.code, answer["verdict"]) == (0, "minor-version")
    assert answer["requirement"] | {"reason": ""} == {
        "verdict": "unsatisfied",
        "reason": "",
        "differs": True,
    }
    (difference,) = (limit for limit in answer["limits"] if limit["code"] == "CDG-M019")
    assert "-e NVIDIA_DISABLE_REQUIRE=1" in difference["fix"]
