# SPDX-License-Identifier: Apache-2.0
"""Where a host keeps its driver: one driver root, laid out in each of the ways met in the field.

Every layout starts from a clone that shares its files with the cached root by hard links, so files
are renamed, linked and replaced here, and never written through.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fakehost.driver_packages import driver_version

if TYPE_CHECKING:
    from collections.abc import Callable

MULTIARCH = ("x86_64-linux-gnu", "i386-linux-gnu")
NIX_HASH = "7q1lmpj1xq9gs5zk2a3f0yd1nwcbz8hi"
DRIVER_LIBRARY = re.compile(
    r"lib(cuda|cudadebugger|nvcuvid|nvoptix|nvidia-.+|.+_nvidia|GLX_indirect)\.so(\..*)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A way to keep a driver, as seen from the host's root."""

    lay_out: Callable[[Path, Path], None]
    """Lay out a driver root (first) as the host root (second), which does not exist yet."""
    driver_root: str = ""
    """Where the driver has a whole root of its own in the host, without the leading slash."""
    firmware_path: str = ""
    """Content of the firmware_class parameter."""
    device_roots: tuple[str, ...] = ("",)


def clone(source: Path, target: Path) -> None:
    """Copy a tree by hard links, or by copies where the file system ends between the two."""

    def link(origin: str, copy: str) -> None:
        try:
            os.link(origin, copy, follow_symlinks=False)
        except OSError:
            shutil.copy2(origin, copy, follow_symlinks=False)

    shutil.copytree(source, target, symlinks=True, copy_function=link)


def ldconfig(root: Path, *directories: str) -> None:
    """Write ``etc/ld.so.cache`` with the machine's own ldconfig."""
    subprocess.run(["ldconfig", "-i", "-X", "-r", str(root), *directories], check=True)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _merge(source: Path, target: Path) -> None:
    """Move all that is in a directory into another, which may have directories of the same names."""
    for path in source.iterdir():
        place = target / path.name
        if place.is_dir() and not place.is_symlink():
            _merge(path, place)
        else:
            _move(path, place)
    source.rmdir()


def _link(link: Path, text: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(text)


def _driver_files(directory: Path) -> list[Path]:
    """NVIDIA's own libraries and links in a library directory."""
    return [
        path
        for path in sorted(directory.iterdir())
        if DRIVER_LIBRARY.fullmatch(path.name) or path.name == "nvidia"
    ]


def lay_out_debian(driver: Path, host: Path) -> None:
    """Alternatives and nvidia/current (or nvidia/tesla-NNN), as the packages made them."""
    clone(driver, host)


def lay_out_flat(driver: Path, host: Path) -> None:
    """Real files under their public names, as Ubuntu's packages and NVIDIA's installer do."""
    clone(driver, host)
    for architecture in MULTIARCH:
        if (host / f"usr/lib/{architecture}/nvidia").is_dir():
            _flatten_libraries(host, host / f"usr/lib/{architecture}")
    _flatten_programs(host)
    _remove_alternatives(host)
    ldconfig(host)


def _flatten_libraries(host: Path, libraries: Path) -> None:
    version = driver_version(host)
    (private,) = (
        path for path in (libraries / "nvidia").iterdir() if path.is_dir() and not path.is_symlink()
    )
    for path in private.iterdir():
        if path.name.startswith("libvdpau_nvidia"):
            _move(path, libraries / "vdpau" / path.name)
        elif path.name == "nvidia-drm_gbm.so":
            _link(libraries / "gbm" / path.name, "../libnvidia-allocator.so.1")
        elif path.name == "nvoptix.bin":
            _move(path, host / "usr/share/nvidia/nvoptix.bin")
        elif path.name != "nvidia":
            _move(path, libraries / path.name)
    wine = private / "nvidia"
    if wine.is_dir():
        wine.rename(libraries / "nvidia.wine")
    shutil.rmtree(libraries / "nvidia")
    if (libraries / "nvidia.wine").is_dir():
        (libraries / "nvidia.wine").rename(libraries / "nvidia")
    diverted = host / "usr/lib/mesa-diverted" / libraries.name
    if diverted.is_dir():
        for path in diverted.iterdir():
            _move(path, libraries / path.name)
    if (libraries / f"libGLX_nvidia.so.{version}").exists():
        _link(libraries / "libGLX_indirect.so.0", f"libGLX_nvidia.so.{version}")


def _flatten_programs(host: Path) -> None:
    homes = {
        "nvidia-smi": "usr/bin",
        "nvidia-debugdump": "usr/bin",
        "nvidia-bug-report.sh": "usr/bin",
        "nvidia_drv.so": "usr/lib/xorg/modules/drivers",
        "libglxserver_nvidia.so": "usr/lib/xorg/modules/extensions",
        "nvidia.ids": "usr/share/nvidia",
    }
    private = [path for path in (host / "usr/lib/nvidia").iterdir() if not path.is_symlink()]
    for directory in private:
        for path in directory.iterdir() if directory.is_dir() else ():
            home = homes.get(re.sub(r"\.so\..*", ".so", path.name))
            if home:
                _move(path, host / home / path.name)
    shutil.rmtree(host / "usr/lib/nvidia")


def _remove_alternatives(host: Path) -> None:
    for directory in ("usr", "etc"):
        for path in (host / directory).rglob("*"):
            if path.is_symlink() and re.match(
                r"/etc/alternatives/(nvidia|glx)\b", str(path.readlink())
            ):
                path.unlink()
    for path in (host / "etc/alternatives").iterdir():
        if re.match(r"(nvidia|glx)\b", path.name):
            path.unlink()
    shutil.rmtree(host / "etc/nvidia", ignore_errors=True)


def lay_out_lib64(driver: Path, host: Path) -> None:
    """64-bit libraries in /usr/lib64 and 32-bit ones in /usr/lib: Fedora, RHEL, SUSE."""
    lay_out_flat(driver, host)
    (host / "usr/lib64/ld-linux-x86-64.so.2").unlink()
    (host / "usr/lib64").rmdir()
    (host / "usr/lib/x86_64-linux-gnu").rename(host / "usr/lib64")
    if (host / "usr/lib/i386-linux-gnu").is_dir():
        for path in (host / "usr/lib/i386-linux-gnu").iterdir():
            if not (host / "usr/lib" / path.name).is_dir():
                _move(path, host / "usr/lib" / path.name)
        shutil.rmtree(host / "usr/lib/i386-linux-gnu")
    if (host / "usr/lib/xorg").is_dir():
        (host / "usr/lib/xorg").rename(host / "usr/lib64/xorg")
    icd = host / "usr/share/vulkan/icd.d/nvidia_icd.json"
    if icd.exists():
        icd.rename(icd.with_name("nvidia_icd.x86_64.json"))
    for path in (host / "etc/ld.so.conf.d").iterdir():
        path.unlink()
    _replace(host / "etc/os-release", 'ID="rhel"\nVERSION_ID="9.6"\nID_LIKE="fedora"\n')
    ldconfig(host, "/lib64", "/lib")


def lay_out_arch(driver: Path, host: Path) -> None:
    """64-bit libraries in /usr/lib, which /usr/lib64 is a link to, and 32-bit ones in /usr/lib32."""
    lay_out_flat(driver, host)
    (host / "usr/lib64/ld-linux-x86-64.so.2").unlink()
    (host / "usr/lib64").rmdir()
    (host / "usr/lib64").symlink_to("lib")
    _merge(host / "usr/lib/x86_64-linux-gnu", host / "usr/lib")
    if (host / "usr/lib/i386-linux-gnu").is_dir():
        _move(host / "usr/lib/i386-linux-gnu", host / "usr/lib32")
    for path in (host / "etc/ld.so.conf.d").iterdir():
        path.unlink()
    _replace(host / "etc/ld.so.conf.d/lib32-glibc.conf", "/usr/lib32\n")
    _replace(host / "etc/os-release", "ID=arch\nBUILD_ID=rolling\n")
    ldconfig(host, "/usr/lib")


def _replace(path: Path, text: str) -> None:
    """Give ``path`` a new content; what it shared its old one with keeps that."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def lay_out_usr_local(driver: Path, host: Path) -> None:
    """All of the driver below /usr/local/nvidia, as on an H200 machine that was looked at."""
    lay_out_flat(driver, host)
    nvidia = host / "usr/local/nvidia"
    libraries = host / "usr/lib/x86_64-linux-gnu"
    for path in [*_driver_files(libraries), *_driver_files(libraries / "vdpau")]:
        _move(path, nvidia / "lib64" / path.name)
    _remove_other_driver_files(host)
    # There every library has its .so, and each public name is in ld.so.cache twice: in the
    # driver's own directory, which ld.so.conf.d names, and as a link in /usr/lib.
    for path in sorted((nvidia / "lib64").glob("*.so.*")):
        plain = path.with_name(path.name.partition(".so.")[0] + ".so")
        if not plain.is_symlink():
            plain.symlink_to(path.name)
    for path in sorted((nvidia / "lib64").glob("*.so*")):
        if path.is_symlink():
            _link(host / "usr/lib" / path.name, f"/usr/local/nvidia/lib64/{path.name}")
    _link(nvidia / "lib", "lib64")
    _move_programs(host, nvidia / "bin")
    _move_shared(host, nvidia / "share")
    if (host / "usr/lib/firmware/nvidia").is_dir():
        _move(host / "usr/lib/firmware/nvidia", nvidia / "firmware/nvidia")
    _replace(nvidia / "version", f"{driver_version(driver)}\n")
    _replace(
        host / "etc/ld.so.conf.d/nvidia.conf", "/usr/local/nvidia/lib64\n/usr/local/nvidia/lib\n"
    )
    ldconfig(host)


PROGRAMS = (
    *("nvidia-smi", "nvidia-debugdump", "nvidia-persistenced", "nvidia-cuda-mps-control"),
    *("nvidia-cuda-mps-server", "nvidia-modprobe", "nvidia-xconfig", "nvidia-bug-report.sh"),
)
SHARED = (
    *("glvnd/egl_vendor.d/10_nvidia.json", "vulkan/icd.d/nvidia_icd.json"),
    *("vulkan/implicit_layer.d/nvidia_layers.json", "nvidia"),
    *("egl/egl_external_platform.d/10_nvidia_wayland.json",),
    *("egl/egl_external_platform.d/15_nvidia_gbm.json",),
)


def _move_programs(host: Path, target: Path) -> None:
    for program in PROGRAMS:
        for directory in ("usr/bin", "usr/sbin"):
            if (host / directory / program).exists():
                _move(host / directory / program, target / program)


def _move_shared(host: Path, target: Path) -> None:
    for name in SHARED:
        if (host / "usr/share" / name).exists():
            _move(host / "usr/share" / name, target / name)


def _remove_other_driver_files(host: Path) -> None:
    """Drop the 32-bit driver and the X server's part, which such hosts do not have."""
    thirty_two = host / "usr/lib/i386-linux-gnu"
    for directory in (thirty_two, thirty_two / "vdpau"):
        for path in _driver_files(directory) if directory.is_dir() else ():
            path.unlink()
    for architecture in MULTIARCH:
        (host / f"usr/lib/{architecture}/gbm/nvidia-drm_gbm.so").unlink(missing_ok=True)
    for path in host.glob("usr/lib/xorg/modules/*/*nvidia*"):
        path.unlink()


def lay_out_operator(driver: Path, host: Path) -> None:
    """A host without any driver, and the driver's own whole root in /run/nvidia/driver."""
    for directory in ("usr/bin", "usr/lib/x86_64-linux-gnu", "etc", "tmp"):
        (host / directory).mkdir(parents=True)
    for link in ("bin", "lib"):
        (host / link).symlink_to(f"usr/{link}")
    _replace(host / "etc/os-release", 'ID=ubuntu\nVERSION_ID="22.04"\nID_LIKE=debian\n')
    ldconfig(host)
    (host / "run/nvidia").mkdir(parents=True)
    lay_out_flat(driver, host / "run/nvidia/driver")


def lay_out_nixos(driver: Path, host: Path) -> None:
    """The driver in the Nix store, found only through /run/opengl-driver and PATH links."""
    unpacked = host / "unpacked"
    host.mkdir(parents=True)
    lay_out_flat(driver, unpacked)
    store = f"nix/store/{NIX_HASH}-nvidia-x11-{driver_version(driver)}"
    libraries = unpacked / "usr/lib/x86_64-linux-gnu"
    for path in _driver_files(libraries):
        _move(path, host / store / "lib" / path.name)
    for path in _driver_files(libraries / "vdpau"):
        _move(path, host / store / "lib/vdpau" / path.name)
    _link(host / store / "lib/gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1")
    _move_programs(unpacked, host / store / "bin")
    _move_shared(unpacked, host / store / "share")
    if (unpacked / "usr/lib/firmware/nvidia").is_dir():
        _move(unpacked / "usr/lib/firmware/nvidia", host / store / "lib/firmware/nvidia")
    shutil.rmtree(unpacked)
    for path in sorted((host / store / "lib").iterdir()):
        _link(host / "run/opengl-driver/lib" / path.name, f"/{store}/lib/{path.name}")
    for name in ("glvnd", "vulkan", "egl"):
        if (host / store / "share" / name).is_dir():
            _link(host / "run/opengl-driver/share" / name, f"/{store}/share/{name}")
    for path in sorted((host / store / "bin").iterdir()):
        _link(host / "run/current-system/sw/bin" / path.name, f"/{store}/bin/{path.name}")
    _link(host / "run/current-system/firmware", f"/{store}/lib/firmware")
    (host / "usr/bin").mkdir(parents=True)
    _replace(host / "etc/os-release", 'ID=nixos\nVERSION_ID="25.05"\n')


def lay_out_ostree(driver: Path, host: Path) -> None:
    """A deployment of an image: RHEL's directories, /usr/etc beside /etc, the rest below /var."""
    lay_out_lib64(driver, host)
    clone(host / "etc", host / "usr/etc")
    (host / "sysroot/ostree/repo").mkdir(parents=True)
    (host / "ostree").symlink_to("sysroot/ostree")
    for name in ("home", "mnt", "opt", "srv"):
        _move(host / name, host / "var" / name)
        (host / name).symlink_to(f"var/{name}")
    (host / "run").mkdir(exist_ok=True)
    (host / "run/ostree-booted").touch()


LAYOUTS = {
    "debian": Layout(lay_out=lay_out_debian),
    "flat": Layout(lay_out=lay_out_flat),
    "lib64": Layout(lay_out=lay_out_lib64),
    "arch": Layout(lay_out=lay_out_arch),
    "usr-local": Layout(
        lay_out=lay_out_usr_local,
        firmware_path="/usr/local/nvidia/firmware",
    ),
    "operator": Layout(
        lay_out=lay_out_operator,
        driver_root="run/nvidia/driver",
        firmware_path="/run/nvidia/driver/lib/firmware",
        device_roots=("", "run/nvidia/driver"),
    ),
    "nixos": Layout(lay_out=lay_out_nixos, firmware_path="/run/current-system/firmware"),
    "ostree": Layout(lay_out=lay_out_ostree),
}
