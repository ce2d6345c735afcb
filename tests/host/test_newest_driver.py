# SPDX-License-Identifier: Apache-2.0
"""What a driver newer than Debian's has, by the public file lists of its packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdi_gen.catalogue import catalogue
from cdi_gen.generate import generate
from cdi_gen.generate.options import Options
from cdi_gen.paths import base_name
from tests.fakehost.gpus import RTX_4090, headless, several
from tests.fakehost.kernel import Kernel, write
from tests.hook.shared_objects import shared_object
from tests.host.driver_tree import link, look

pytestmark = pytest.mark.host

VERSION = "615.71.09"

# SONAME by library; {} of those that have none but the file's own name. From the lists of the
# packages for 595 of Ubuntu, of Bottlerocket's kmod packages and of Arch's nvidia-utils.
VERSIONED = {
    **dict.fromkeys(("libcuda", "libcudadebugger", "libnvcuvid", "libnvoptix"), "1"),
    **{f"libnvidia-{name}": "1" for name in (
        *("allocator", "cfg", "encode", "fbc", "ml", "ngx", "opencl", "opticalflow"),
        *("ptxjitcompiler", "sandboxutils", "vksc-core"),
    )},
    **{f"libnvidia-{name}": None for name in (
        *("eglcore", "glcore", "glsi", "glvkspirv", "gpucomp", "gtk3", "pkcs11"),
        *("pkcs11-openssl3", "present", "rtcore", "tileiras", "tls", "wayland-client"),
    )},
    "libnvidia-nvvm": "4", "libnvidia-nscq": "2", "libvdpau_nvidia": "1",
    "libGLX_nvidia": "0", "libEGL_nvidia": "0",
    "libGLESv1_CM_nvidia": "1", "libGLESv2_nvidia": "2",
}  # fmt: skip
OWN_VERSION = {
    "libnvidia-api": "1",
    "libnvidia-nvvm70": "4",
    "libnvidia-egl-gbm": "1.1.3",
    "libnvidia-egl-wayland": "1.1.21",
    "libnvidia-egl-wayland2": "1.0.1",
    "libnvidia-egl-xcb": "1.0.5",
    "libnvidia-egl-xlib": "1.0.5",
}
FIRMWARE = ("gsp_ga10x.bin", "gsp_tu10x.bin", "ucodes_ga10x.bin", "ucodes_tu10x.bin")
DATA = (
    "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    "/usr/share/egl/egl_external_platform.d/09_nvidia_wayland2.json",
    "/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json",
    "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
    "/usr/share/egl/egl_external_platform.d/20_nvidia_xcb.json",
    "/usr/share/egl/egl_external_platform.d/20_nvidia_xlib.json",
    "/usr/share/vulkan/icd.d/nvidia_icd.json",
    "/usr/share/vulkan/implicit_layer.d/nvidia_layers.json",
    "/usr/share/vulkansc/icd.d/nvidia_icd_vksc.json",
    "/usr/share/nvidia/nvoptix.bin",
)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    # One that has no MIG: what is made here as libnvidia-ml cannot be loaded.
    gpus = (headless(several(1, RTX_4090)[0]),)
    write(Kernel(driver_version=VERSION, gpus=gpus, modeset=False), tmp_path)
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    for name, number in VERSIONED.items():
        soname = f"{name}.so.{number or VERSION}"
        (libraries / f"{name}.so.{VERSION}").write_bytes(shared_object(soname.encode(), needed=()))
        if number:
            link(libraries / soname, f"{name}.so.{VERSION}")
    for name, number in OWN_VERSION.items():
        soname = f"{name}.so.{number.partition('.')[0]}"
        (libraries / f"{name}.so.{number}").write_bytes(shared_object(soname.encode(), needed=()))
    for place in (*DATA, *(f"/usr/lib/firmware/nvidia/{VERSION}/{each}" for each in FIRMWARE)):
        (tmp_path / place[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place[1:]).write_text("{}\n", encoding="ascii")
    return tmp_path


def mounts(host: Path, *capabilities: str) -> dict[str, str]:
    """Host path by container path."""
    spec = generate(look(host), Options(capabilities=capabilities or ("all",)))
    return {each.container_path: each.host_path for each in spec.container_edits.mounts}


def test_every_library_is_found_and_listed(host: Path) -> None:
    inventory = look(host)
    found = {base_name(each.path).partition(".so")[0] for each in inventory.libraries}
    assert found == VERSIONED.keys() | OWN_VERSION.keys()
    assert found <= catalogue().libraries.keys()
    assert not [missing for missing in inventory.missing if missing.code == "CDG-H203"]


def test_every_data_file_is_mounted(host: Path) -> None:
    """Where the loaders look: below /usr/share, and those of Vulkan below /etc."""
    taken = set(mounts(host).values())
    assert set(DATA) <= taken


def test_compute_gets_what_cuda_13_opens(host: Path) -> None:
    names = {base_name(each) for each in mounts(host, "compute").values()}
    assert f"libnvidia-tileiras.so.{VERSION}" in names
    assert "libnvidia-nvvm70.so.4" in names
    assert f"libGLX_nvidia.so.{VERSION}" not in names


class TestFirmware:
    """All that the driver's own folder holds."""

    def test_of_615(self, host: Path) -> None:
        place = f"/lib/firmware/nvidia/{VERSION}"
        assert {f"{place}/{each}" for each in FIRMWARE} <= mounts(host).keys()

    @pytest.mark.parametrize("name", ["gsp_gb20x.bin.xz", "ucodes_gr10x.bin.zst", "gr10x/a.bin"])
    def test_of_a_driver_to_come(self, host: Path, name: str) -> None:
        """Compressed, as Fedora and Arch have them; in folders, as linux-firmware does."""
        added = host / f"usr/lib/firmware/nvidia/{VERSION}" / name
        added.parent.mkdir(exist_ok=True)
        added.touch()
        assert f"/lib/firmware/nvidia/{VERSION}/{name}" in mounts(host)

    def test_of_another_version_is_left(self, host: Path) -> None:
        older = host / "usr/lib/firmware/nvidia/610.43.03"
        older.mkdir()
        (older / "gsp_ga10x.bin").touch()
        assert not [each for each in mounts(host) if "610" in each]

    def test_a_hostile_name_is_left(self, host: Path) -> None:
        folder = host / f"usr/lib/firmware/nvidia/{VERSION}"
        (folder / "a,b.bin").touch()
        link(folder / "loop", ".")
        found = mounts(host)
        assert not [each for each in found if "," in each or "loop" in each]
        assert f"/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin" in found
