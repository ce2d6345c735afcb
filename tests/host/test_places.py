# SPDX-License-Identifier: Apache-2.0
"""A driver in a place of the site's own is found by asking those who use it, and nobody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.generate import generate
from cdi_gen.host.driver.places import Places
from cdi_gen.host.roots import Root
from tests.host import driver_tree
from tests.host.driver_tree import SmallHost, link, require_whole
from tests.host.looking import driver_of

pytestmark = pytest.mark.host


def a_package_of_debian(host: SmallHost) -> None:
    """A prefix that only the package's list of files tells."""
    host.whole("data/nvidia")
    names = "".join(f"/data/nvidia/lib64/{each}\n" for each in host.tree.libraries)
    host.text("var/lib/dpkg/info/site-nvidia-driver.list", f"/.\n/data\n{names}")


def a_package_of_arch(host: SmallHost) -> None:
    """The same of pacman, whose names have no leading slash."""
    host.whole("data/nvidia")
    names = "".join(f"data/nvidia/lib64/{each}\n" for each in host.tree.libraries)
    host.text("var/lib/pacman/local/site-nvidia-utils-550-1/files", f"%FILES%\ndata/\n{names}")


def a_package_of_gentoo(host: SmallHost) -> None:
    """The same of Portage."""
    host.whole("data/nvidia")
    names = "".join(f"obj /data/nvidia/lib64/{each} d41d8 17\n" for each in host.tree.libraries)
    host.text("var/db/pkg/x11-drivers/nvidia-drivers-550.163.01/CONTENTS", names)


def a_package_of_void(host: SmallHost) -> None:
    """The same of XBPS, a property list."""
    host.whole("data/nvidia")
    names = "".join(f"<string>/data/nvidia/lib64/{each}</string>\n" for each in host.tree.libraries)
    host.text("var/db/xbps/.nvidia-libs-files.plist", f"<plist><array>{names}</array></plist>\n")


def a_package_of_slackware(host: SmallHost) -> None:
    """The same of Slackware's package tools."""
    host.whole("data/nvidia")
    names = "".join(f"data/nvidia/lib64/{each}\n" for each in host.tree.libraries)
    host.text("var/lib/pkgtools/packages/nvidia-driver-550-x86_64-1", f"FILE LIST:\n./\n{names}")


def nvidias_installer(host: SmallHost) -> None:
    """The list by which nvidia-installer uninstalls."""
    host.whole("data/nvidia")
    names = "".join(f"0: /data/nvidia/lib64/{each}\n" for each in host.tree.libraries)
    host.text("var/lib/nvidia/log", f"1.0\n{host.tree.version}\nNVIDIA driver\n{names}")


PACKAGES = (
    *(a_package_of_debian, a_package_of_arch, a_package_of_gentoo, a_package_of_void),
    *(a_package_of_slackware, nvidias_installer),
)


@pytest.mark.parametrize("install", PACKAGES, ids=lambda each: each.__name__)
def test_what_the_package_says(
    small: Callable[..., SmallHost], install: Callable[[SmallHost], None]
) -> None:
    host = small()
    install(host)
    require_whole(host, host.look())


@pytest.mark.parametrize(
    "files",
    [
        {"etc/ld.so.conf": "# of the site\n/data/nvidia/lib64 # the driver\n"},
        {"etc/ld.so.conf": "include ld.so.conf.d/*.conf\n", "etc/ld.so.conf.d/n.conf": "LINES"},
        {"etc/ld.so.conf": "include /srv/*/site.conf\n", "srv/a/site.conf": "LINES"},
    ],
    ids=["line", "included", "included from elsewhere"],
)
def test_what_the_loader_is_told(small: Callable[..., SmallHost], files: dict[str, str]) -> None:
    """An image that is never written to may have ld.so.conf and no cache."""
    host = small()
    host.whole("data/nvidia")
    for name, text in files.items():
        host.text(name, text.replace("LINES", "/usr/local/lib\n/data/nvidia/lib64\n"))
    require_whole(host, host.look())


def test_an_ld_so_conf_that_includes_itself(small: Callable[..., SmallHost]) -> None:
    host = small()
    host.text("etc/ld.so.conf", "include /etc/ld.so.conf\ninclude /etc/*\n")
    with pytest.raises(CdiGenError, match="none of its libraries is installed"):
        host.look()


@pytest.mark.parametrize("end", ["", "/"])
@pytest.mark.parametrize("prefix", ["/data/drivers/nvidia-550", "/mnt/stateful/nvidia"])
def test_a_prefix_that_the_kernel_is_told(
    small: Callable[..., SmallHost], prefix: str, end: str
) -> None:
    """firmware_class.path= is the one thing that leads to a prefix of the site's own."""
    host = small(firmware_path=f"{prefix}/firmware{end}")
    host.whole(prefix)
    require_whole(host, host.look())


def test_where_the_modules_own_file_is(small: Callable[..., SmallHost]) -> None:
    """depmod's list names it, and leads by a link to the prefix of all the driver."""
    host = small()
    host.whole("data/nvidia")
    host.text("data/nvidia/kernel/nvidia.ko.zst", "")
    release = "6.12.38+deb13-amd64"
    modules = f"lib/modules/{release}"
    host.text(
        f"{modules}/modules.dep", "kernel/fs/ext4.ko:\nupdates/nvidia.ko.zst: kernel/drm.ko\n"
    )
    link(host.root / modules / "updates/nvidia.ko.zst", "/data/nvidia/kernel/nvidia.ko.zst")
    require_whole(host, host.look())


def test_where_the_loader_of_nvidia_smi_looks(
    small: Callable[..., SmallHost], tmp_path: Path
) -> None:
    """A program that was linked with a RUNPATH to a directory that nothing else names."""
    host = small()
    host.libraries("data/a1b2c3/lib")
    source = tmp_path / "smi.c"
    source.write_text("int main(void) { return 0; }\n", encoding="ascii")
    (host.root / "usr/bin").mkdir(parents=True)
    command = ["cc", "-o", str(host.root / "usr/bin/nvidia-smi"), str(source)]
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    subprocess.run([*command, "-Wl,-rpath,/data/a1b2c3/lib:/lib"], check=True)
    assert {os.path.dirname(each.path) for each in host.look().libraries} == {"/data/a1b2c3/lib"}


def test_a_directory_that_others_can_write_to_is_not_walked(
    small: Callable[..., SmallHost],
) -> None:
    """Anybody could put a library of the loaded version there."""
    host = small()
    host.whole("opt/nvidia-550")
    (host.root / "opt/nvidia-550/lib64").chmod(0o777)
    with pytest.raises(CdiGenError, match="none of its libraries is installed"):
        host.look()
    (host.root / "opt/nvidia-550/lib64").chmod(0o755)
    require_whole(host, host.look())


def test_forward_compatibility_is_no_driver(small: Callable[..., SmallHost]) -> None:
    """A toolkit's compat directory has a libcuda of the loaded version; the driver is split."""
    host = small()
    SmallHost(root=host.root, tree=driver_tree.tree("470-tesla")).libraries("usr/lib64")
    host.libraries("usr/local/cuda-12.4/compat", "libcuda.so", "libnvidia-ptxjitcompiler")
    host.text("etc/ld.so.conf", "/usr/local/cuda-12.4/compat\n")
    with pytest.raises(CdiGenError, match="the driver is split"):
        generate(host.look())


def _includes(etc: Path) -> None:
    """Many lines that each stand for many files."""
    (etc / "ld.so.conf").write_text("include /etc/many/*\n" * 20_000)
    (etc / "many").mkdir()
    for number in range(300):
        (etc / f"many/{number}").touch()


def _one_long_line(etc: Path) -> None:
    """A package manager's file that is no list: of a signature all is one word."""
    database = etc.parent / "var/db/xbps"
    database.mkdir(parents=True)
    (database / "nvidia-550.xbps.sig").write_bytes(b"\xff" * 200_000)


@pytest.mark.parametrize("make", [_includes, _one_long_line])
def test_it_does_not_last(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """By the processor's clock: of a driver root, files may be large that have nothing to say."""
    (tmp_path / "etc").mkdir()
    make(tmp_path / "etc")
    places = Places(
        Root(str(tmp_path)),
        version="550.1",
        triplet="x86_64-linux-gnu",
        firmware_path="",
        kernel_release="6",
    )
    begun = time.process_time()
    found = [each for source in places.sources((), ()) for each in source()]
    assert time.process_time() - begun < 1.5
    assert found == []


@pytest.mark.parametrize("store", ["docker/overlay2/a1/diff", "containerd/s/snapshots/7/fs"])
def test_an_engines_images_are_not_walked(small: Callable[..., SmallHost], store: str) -> None:
    """Of a daemon with its data in /opt; an image has libraries of the loaded version."""
    host = small()
    host.libraries(f"opt/{store}/usr/lib64")
    host.libraries(f"opt/{store}/lib64")
    with pytest.raises(CdiGenError, match="none of its libraries is installed"):
        host.look()


def test_the_loaded_version_is_looked_for_where_another_is_installed(
    small: Callable[..., SmallHost],
) -> None:
    """The distribution's 470 in the usual place, the loaded 550 in /opt."""
    host = small()
    older = SmallHost(root=host.root, tree=driver_tree.tree("470-tesla"))
    older.libraries("usr/lib/x86_64-linux-gnu")
    host.whole("opt/nvidia-550")
    inventory = host.look()
    assert driver_of(inventory).library_version == host.tree.version
    require_whole(host, inventory)
