# SPDX-License-Identifier: Apache-2.0
"""Files of the driver that the host lacks, or that containers do not get.

The fake host is a Debian root with the packages of the driver. The fix names packages: following it
gives the host the files that dpkg's lists of these packages have, and no others.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.cli.program import cdi_gen
from tests.doctor.examining import examine
from tests.fakehost import hosts
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.fakehost.hosts import FakeHost
from tests.host.looking import driver_root_of
from tests.pains import pain

LIBRARIES = "usr/lib/x86_64-linux-gnu"


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    """One host for all tests: each leaves it as it was."""
    try:
        return hosts.build("550-1gpu", tmp_path_factory.mktemp("host") / "550-1gpu")
    except DriverRootUnavailableError as error:
        pytest.skip(f"no fake host: {error}")


def remove(fake: FakeHost, kept: Path, *patterns: str) -> None:
    """Move files away from the host."""
    for pattern in patterns:
        paths = [path for path in fake.root.glob(pattern) if path.is_symlink() or path.is_file()]
        assert paths, pattern
        for path in paths:
            target = kept / path.relative_to(fake.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)


def install(fix: str, fake: FakeHost, kept: Path) -> None:
    """Do what apt-get of the fix does: give the host the files of the packages, by their names."""
    command = re.fullmatch(
        r"sudo apt-get install --reinstall ([\w. -]+) && sudo cdi-gen refresh", fix
    )
    assert command, fix
    names: set[str] = set()
    for package in command[1].split():
        lists = [*fake.root.glob(f"var/lib/dpkg/info/{package}.list")]
        lists += fake.root.glob(f"var/lib/dpkg/info/{package}:amd64.list")
        assert lists, f"Debian has no package {package}"
        names |= {Path(line).name for line in lists[0].read_text().splitlines()}
    for path in [*kept.rglob("*")]:
        if path.name in names and (path.is_symlink() or path.is_file()):
            shutil.move(path, fake.root / path.relative_to(kept))


def spec_has(fake: FakeHost, name: str, *words: str) -> bool:
    """Whether a container gets a file of this name by a new spec."""
    options = ("--host-root", str(fake.root), "--driver-root", driver_root_of(fake))
    result = cdi_gen("generate", "--format", "json", *options, *words)
    assert result.code == 0, result.err
    mounts = json.loads(result.out)["containerEdits"]["mounts"]
    return any(name in mount["containerPath"] for mount in mounts)


def suffer(fake: FakeHost, tmp_path: Path, name: str, code: str, *patterns: str) -> str:
    """Remove files; the check names them with a code; following its fix brings them back."""
    kept = tmp_path / "kept"
    remove(fake, kept, *patterns)
    assert not spec_has(fake, name)

    finding = examine(fake, "driver-parts").finding(code)
    assert name.partition(".so")[0] in finding.message
    install(finding.fix, fake, kept)

    assert examine(fake, "driver-parts").codes == ()
    assert spec_has(fake, name)
    return finding.message


@pain(
    21,
    "vulkaninfo: ERROR_INCOMPATIBLE_DRIVER; eglinfo: no NVIDIA",
    command="cdi-gen doctor driver-parts",
    codes=("CDG-H204",),
    simulated=True,
)
def test_vulkan_icd_is_missing(fake: FakeHost, tmp_path: Path) -> None:
    path = "usr/share/vulkan/icd.d/nvidia_icd.json"
    message = suffer(fake, tmp_path, "nvidia_icd.json", "CDG-H204", path)
    assert "is installed without this file" in message


@pain(
    21,
    "vulkaninfo: ERROR_INCOMPATIBLE_DRIVER; eglinfo: no NVIDIA",
    command="cdi-gen doctor driver-parts",
    codes=("CDG-H204",),
    simulated=True,
)
def test_egl_vendor_file_is_missing(fake: FakeHost, tmp_path: Path) -> None:
    suffer(
        fake, tmp_path, "10_nvidia.json", "CDG-H204", "usr/share/glvnd/egl_vendor.d/10_nvidia.json"
    )


@pain(
    22,
    "OpenGL renderer: llvmpipe (the NVIDIA driver is not used, without an error)",
    command="cdi-gen doctor driver-parts",
    codes=("CDG-H203",),
    simulated=True,
)
def test_core_of_egl_is_missing(fake: FakeHost, tmp_path: Path) -> None:
    pattern = f"{LIBRARIES}/libnvidia-eglcore.so.*"
    message = suffer(fake, tmp_path, "libnvidia-eglcore.so", "CDG-H203", pattern)
    assert "software renderer" in message


@pain(
    23,
    "Cannot load libnvidia-encode.so.1 / Cannot load libnvcuvid.so.1 (ffmpeg)",
    command="cdi-gen doctor driver-parts",
    codes=("CDG-G104",),
    simulated=True,
)
def test_video_libraries_are_missing(fake: FakeHost, tmp_path: Path) -> None:
    patterns = (f"{LIBRARIES}/libnvidia-encode.so.*", f"{LIBRARIES}/libnvcuvid.so.*")
    # The 32-bit libraries need each other too.
    more = (
        "usr/lib/i386-linux-gnu/libnvidia-encode.so.*",
        "usr/lib/i386-linux-gnu/libnvcuvid.so.*",
    )
    message = suffer(fake, tmp_path, "libnvidia-encode.so", "CDG-G104", *patterns, *more)
    assert "without NVENC and NVDEC" in message


@pain(
    24,
    "OptiX: OPTIX_ERROR_LIBRARY_NOT_FOUND, or no denoiser: nvoptix.bin is missing",
    command="cdi-gen doctor driver-parts",
    codes=("CDG-H204",),
    simulated=True,
)
def test_data_of_optix_are_missing(fake: FakeHost, tmp_path: Path) -> None:
    suffer(fake, tmp_path, "nvoptix.bin", "CDG-H204", "usr/share/nvidia/nvoptix.bin")


@pain(
    25,
    "clinfo: Number of platforms 0",
    command="cdi-gen doctor driver-parts",
    codes=("CDG-H204",),
    simulated=True,
)
def test_opencl_icd_is_missing(fake: FakeHost, tmp_path: Path) -> None:
    suffer(fake, tmp_path, "nvidia.icd", "CDG-H204", "etc/OpenCL/vendors/nvidia.icd")


@pain(
    27,
    "wrong ELF class: ELFCLASS64; Steam: libGL error: failed to load driver",
    command="cdi-gen generate --explain",
    codes=("CDG-G106",),
    simulated=True,
)
def test_32_bit_libraries_are_left_out(fake: FakeHost) -> None:
    options = ("--host-root", str(fake.root), "--driver-root", driver_root_of(fake))
    path = "i386-linux-gnu/libGLX_nvidia.so"
    assert not spec_has(fake, path)

    table = cdi_gen("generate", "--explain", *options).out
    (row,) = (line for line in table.splitlines() if path in line)
    assert row.startswith("left")
    assert row.endswith("(32-bit: only with --capabilities all,compat32) [CDG-G106]")

    assert spec_has(fake, path, "--capabilities", "all,compat32")


@pain(
    28,
    'Xorg: (EE) Failed to load module "nvidia" (module does not exist, 0)',
    command="cdi-gen doctor driver-parts",
    codes=("CDG-G104",),
    simulated=True,
)
def test_modules_of_the_x_server_are_missing(fake: FakeHost, tmp_path: Path) -> None:
    patterns = ("usr/lib/**/nvidia_drv.so", "usr/lib/**/libglxserver_nvidia.so*")
    message = suffer(fake, tmp_path, "nvidia_drv.so", "CDG-G104", *patterns)
    assert "without an X server" in message
