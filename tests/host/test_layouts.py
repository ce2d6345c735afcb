# SPDX-License-Identifier: Apache-2.0
"""Drivers where distributions and installers put them, found without any option.

Each host has the files of Debian's real driver, in the places where the distribution that it is
named after has its own. What is asked of all of them: every library, nvidia-smi, the firmware and
the ICD files, each where a container looks for it.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.generate import generate
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import HostPath, base_name
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.host import driver_tree
from tests.host.driver_tree import SmallHost, link

pytestmark = pytest.mark.host

SYSROOT = "x86_64-bottlerocket-linux-gnu/sys-root"
STORE = "/nix/store/7q1lmpj1xq9gs5zk2a3f0yd1nwcbz8hi"
GUIX = "/gnu/store/1x5ah9qbkrdk4sm7mvpk3gfk9rqkcq2x"
HOOK = HookProgram(path=HostPath("/usr/libexec/cdi-gen/cdi-gen-hook"))
ICD = "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., SmallHost]:
    """Give an empty host of a driver of Debian's."""

    def made(driver_set: str = "550-full", **changes: object) -> SmallHost:
        try:
            tree = driver_tree.tree(driver_set)
        except DriverRootUnavailableError as error:
            pytest.skip(f"no driver {driver_set}: {error}")
        host = SmallHost(root=tmp_path, tree=tree, **changes)  # type: ignore[arg-type]
        host.boot()
        return host

    return made


def require_whole(host: SmallHost, inventory: Inventory, *, firmware: bool = True) -> None:
    """The container gets all of the driver, where its programs and loaders look for it."""
    assert {base_name(each.path) for each in inventory.libraries} == set(host.tree.libraries) - {
        name for name in host.tree.libraries if name.startswith("libglxserver")
    }
    assert not [each for each in inventory.missing if "needed by" in each.reason]
    mounts = {
        each.container_path: each.host_path for each in generate(inventory).container_edits.mounts
    }
    assert {"/usr/bin/nvidia-smi", "/bin/nvidia-smi"} & mounts.keys()
    assert base_name(mounts["/etc/vulkan/icd.d/nvidia_icd.json"]) == "nvidia_icd.json"
    assert base_name(mounts[ICD]) == "10_nvidia.json"
    assert base_name(mounts["/usr/share/nvidia/nvoptix.bin"]) == "nvoptix.bin"
    if firmware:
        place = f"/lib/firmware/nvidia/{host.tree.version}"
        assert {f"{place}/{each}" for each in host.tree.firmware} <= mounts.keys()
    for path in mounts.values():
        assert (host.root / path.lstrip("/")).is_file()


def bottlerocket(host: SmallHost) -> None:
    """Everything of the system below one sys-root, the driver one level below usr/lib/nvidia."""
    shutil.rmtree(host.root / "usr")
    for name, text in (("usr", f"{SYSROOT}/usr"), ("lib", f"{SYSROOT}/usr/lib")):
        link(host.root / name, text)
    host.libraries(f"{SYSROOT}/usr/lib/nvidia/tesla")
    host.programs(f"{SYSROOT}/usr/libexec/nvidia/tesla/bin")
    host.firmware(f"{SYSROOT}/usr/lib/firmware")
    host.shared(f"{SYSROOT}/usr/share")


def bottlerocket_of_several_branches(host: SmallHost) -> None:
    """The same with a directory for each branch."""
    host.libraries("usr/lib/nvidia/550/tesla")
    host.programs("usr/libexec/nvidia/550/tesla/bin")
    host.firmware("usr/lib/firmware")
    host.shared("usr/share")


def talos(host: SmallHost) -> None:
    """musl's own / without a loader cache; glibc and the driver in a prefix of their own."""
    host.libraries("usr/local/glibc/usr/lib")
    host.programs("usr/local/glibc/usr/bin")
    host.shared("usr/local/glibc/usr/share")
    host.firmware("usr/lib/firmware")


def flatcar(host: SmallHost) -> None:
    """A read-only /usr: the driver in /opt/nvidia, its programs linked in /opt/bin."""
    prefix = f"/opt/nvidia/{host.tree.version}"
    host.whole(prefix)
    link(host.root / "opt/nvidia/current", host.tree.version)
    for name in host.tree.programs:
        link(host.root / "opt/bin" / name, f"{prefix}/bin/{name}")


def container_linux(host: SmallHost) -> None:
    """Its predecessor: a directory for each pair of driver and system."""
    prefix = f"/opt/nvidia/{host.tree.version}/4081.2.0"
    host.whole(prefix)
    link(host.root / "opt/nvidia/current", prefix)
    for name in host.tree.programs:
        link(host.root / "opt/bin" / name, f"{prefix}/bin/{name}")


def clear_linux(host: SmallHost) -> None:
    """NVIDIA's installer with prefixes in /opt, and a line of ld.so.conf.d."""
    host.libraries("opt/nvidia/lib")
    host.programs("opt/nvidia/bin")
    host.shared("opt/nvidia/share")
    host.firmware("usr/lib/firmware")
    host.text("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
    host.text("etc/ld.so.conf.d/nvidia.conf", "/opt/nvidia/lib\n")


def nixos_datacenter(host: SmallHost) -> None:
    """No /run/opengl-driver: libraries and programs are two outputs in the store."""
    store = f"{STORE}-nvidia-dc-{host.tree.version}-6.12.38"
    host.libraries(f"{store}/lib")
    host.shared(f"{store}/share")
    host.programs(f"{STORE}-nvidia-dc-{host.tree.version}-6.12.38-bin/bin")
    host.firmware(f"{STORE}-nvidia-dc-{host.tree.version}-firmware/lib/firmware")
    for name in host.tree.programs:
        link(host.root / "run/current-system/sw/bin" / name, f"{store}-bin/bin/{name}")
    link(
        host.root / "run/current-system/firmware",
        f"{STORE}-nvidia-dc-{host.tree.version}-firmware/lib/firmware",
    )


def guix(host: SmallHost) -> None:
    """A profile of links into the store."""
    store = f"{GUIX}-nvidia-driver-{host.tree.version}"
    host.libraries(f"{store}/lib")
    host.programs(f"{store}/bin")
    host.shared(f"{store}/share")
    host.firmware(f"{store}/lib/firmware")
    for name in ("lib", "bin", "share"):
        link(host.root / "run/current-system/profile" / name, f"{store}/{name}")


def gentoo(host: SmallHost) -> None:
    """/lib64 and /usr/lib64 apart, programs in /opt/bin, firmware in a real /lib/firmware."""
    (host.root / "lib64").mkdir()
    host.libraries("usr/lib64")
    host.programs("opt/bin")
    host.shared("usr/share")
    host.firmware("lib/firmware")


def void(host: SmallHost) -> None:
    """All libraries in /usr/lib, to which /usr/lib64 is a link; Arch has the same."""
    link(host.root / "usr/lib64", "lib")
    for name in ("lib", "lib64"):
        link(host.root / name, "usr/lib")
    host.libraries("usr/lib")
    host.programs("usr/bin")
    host.shared("usr/share")
    host.firmware("usr/lib/firmware")


def slackware(host: SmallHost) -> None:
    """No merged /usr; Unraid is made of it, its / in memory and without a loader cache."""
    (host.root / "lib64").mkdir()
    (host.root / "lib").mkdir()
    host.libraries("usr/lib64")
    host.programs("usr/bin")
    host.shared("usr/share")
    host.firmware("lib/firmware")


def silverblue(host: SmallHost) -> None:
    """RHEL's directories in a deployment; /opt and /usr/local lead to /var."""
    for name, text in (("lib", "usr/lib"), ("lib64", "usr/lib64"), ("opt", "var/opt")):
        link(host.root / name, text)
    link(host.root / "usr/local", "../var/usrlocal")
    host.libraries("usr/lib64")
    host.programs("usr/bin")
    host.shared("usr/share")
    host.firmware("usr/lib/firmware")


def container_optimized_os(host: SmallHost) -> None:
    """The installer's directory on a stateful partition."""
    host.whole("var/lib/nvidia")


def kubernetes_engine(host: SmallHost) -> None:
    """The same at Google's Kubernetes; Vulkan's file lies in a directory of its own."""
    host.whole("home/kubernetes/bin/nvidia")
    move(host, "home/kubernetes/bin/nvidia/share/vulkan", "home/kubernetes/bin/nvidia/vulkan")


def truenas(host: SmallHost) -> None:
    """A system extension over Debian's /usr: the loader's cache has never heard of it."""
    link(host.root / "lib", "usr/lib")
    (host.root / "etc").mkdir(exist_ok=True)
    host.text("etc/ld.so.conf", "")
    subprocess.run(["ldconfig", "-X", "-r", str(host.root)], check=True, capture_output=True)
    host.libraries("usr/lib/x86_64-linux-gnu")
    host.programs("usr/bin")
    host.shared("usr/share")
    host.firmware("usr/lib/firmware")


def ubuntu_core(host: SmallHost) -> None:
    """The driver in a snap, a whole tree of Ubuntu's layout; the kernel's has the firmware."""
    link(host.root / "lib", "usr/lib")
    host.libraries("snap/nvidia-core24/21/usr/lib/x86_64-linux-gnu")
    host.programs("snap/nvidia-core24/21/usr/bin")
    host.shared("snap/nvidia-core24/21/usr/share")
    host.firmware("usr/lib/firmware")
    link(host.root / "snap/nvidia-core24/current", "21")


def mageia(host: SmallHost) -> None:
    """Libraries and programs in one directory of the driver, as alternatives of ld.so.conf."""
    host.libraries("usr/lib64/nvidia-current")
    host.programs("usr/lib64/nvidia-current/bin")
    host.shared("usr/share")
    host.firmware("lib/firmware")


def exherbo(host: SmallHost) -> None:
    """A prefix for each architecture."""
    host.libraries("usr/x86_64-pc-linux-gnu/lib")
    host.programs("usr/x86_64-pc-linux-gnu/bin")
    host.shared("usr/share")
    host.firmware("usr/lib/firmware")
    link(host.root / "lib", "usr/lib")


def bright_cluster_manager(host: SmallHost) -> None:
    """The driver of a cluster's nodes, in the directory that the head node shares."""
    host.whole(f"cm/local/apps/cuda-driver/libs/{host.tree.version}")
    link(host.root / "cm/local/apps/cuda-driver/libs/current", host.tree.version)


def cray(host: SmallHost) -> None:
    """The driver of a compute node."""
    host.whole(f"opt/cray/nvidia/{host.tree.version}")
    link(host.root / "opt/cray/nvidia/default", host.tree.version)


def glibc_beside_musl(host: SmallHost) -> None:
    """Alpine with a glibc of its own."""
    host.libraries("usr/glibc-compat/lib")
    host.programs("usr/bin")
    host.shared("usr/share")
    host.firmware("lib/firmware")


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


def move(host: SmallHost, old: str, new: str) -> None:
    """Rename a directory of the host."""
    (host.root / new).parent.mkdir(parents=True, exist_ok=True)
    (host.root / old).rename(host.root / new)


LAYOUTS = (
    *(bottlerocket, bottlerocket_of_several_branches, talos, flatcar, container_linux),
    *(clear_linux, nixos_datacenter, guix, gentoo, void, slackware, silverblue),
    *(container_optimized_os, kubernetes_engine, truenas, ubuntu_core, glibc_beside_musl),
    *(mageia, exherbo, bright_cluster_manager, cray),
    *(a_package_of_debian, a_package_of_arch, a_package_of_gentoo),
)
FIRMWARE = {
    "nixos_datacenter": "/run/current-system/firmware",
    "flatcar": "/opt/nvidia/550.163.01/firmware",
}


@pytest.mark.parametrize("lay_out", LAYOUTS, ids=lambda each: each.__name__)
def test_found_without_help(
    small: Callable[..., SmallHost], lay_out: Callable[[SmallHost], None]
) -> None:
    host = small(firmware_path=FIRMWARE.get(lay_out.__name__, ""))
    lay_out(host)
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


@pytest.mark.parametrize("prefix", ["/data/drivers/nvidia-550", "/mnt/stateful/nvidia"])
def test_a_prefix_that_the_kernel_is_told(small: Callable[..., SmallHost], prefix: str) -> None:
    """firmware_class.path= is the one thing that leads to a prefix of the site's own."""
    host = small(firmware_path=f"{prefix}/firmware")
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
    assert inventory.driver.library_version == host.tree.version
    require_whole(host, inventory)


class TestDriverRoots:
    """``--driver-root`` of a directory that is no whole file tree."""

    @pytest.mark.parametrize("libraries", ["lib64", "lib", "lib/x86_64-linux-gnu", ""])
    @pytest.mark.parametrize("root", ["/home/kubernetes/bin/nvidia", "/usr/local/nvidia", "/mnt/d"])
    def test_one(self, small: Callable[..., SmallHost], root: str, libraries: str) -> None:
        host = small()
        host.whole(root, libraries)
        inventory = host.look(driver_root=root)
        require_whole(host, inventory)
        assert (inventory.driver_root, inventory.dev_root) == (root, "/")
        (node, *_) = inventory.control_nodes
        assert node.present

    def test_one_with_nodes_of_its_own(self, small: Callable[..., SmallHost]) -> None:
        """Of a driver container: its /dev counts, and an option that names another."""
        host = small()
        host.whole("run/nvidia/driver/usr")
        (host.root / "run/nvidia/driver/dev").mkdir()
        assert host.look(driver_root="/run/nvidia/driver").dev_root == "/run/nvidia/driver"
        assert host.look(driver_root="/run/nvidia/driver", dev_root="/").dev_root == "/"

    def test_icd_files_as_google_has_them(self, small: Callable[..., SmallHost]) -> None:
        host = small()
        kubernetes_engine(host)
        require_whole(host, host.look(driver_root="/home/kubernetes/bin/nvidia"))

    def test_libraries_in_the_root_itself(self, small: Callable[..., SmallHost]) -> None:
        """In the container they are in a directory of libraries, not in /."""
        host = small()
        host.whole("mnt/d", "")
        inventory = host.look(driver_root="/mnt/d")
        spec = generate(dataclasses.replace(inventory, hook=HOOK))
        places = {each.container_path for each in spec.container_edits.mounts}
        assert f"/usr/lib64/libcuda.so.{host.tree.version}" in places
        assert not [each for each in places if each.count("/") == 1]
        (hook,) = spec.container_edits.hooks
        assert {"/usr/lib64/libcuda.so.1", "/usr/lib64"} <= {
            word for each in hook.args for word in each.split("::")
        }

    def test_programs_in_the_root_itself(self, small: Callable[..., SmallHost]) -> None:
        host = small()
        host.libraries("mnt/d/lib64")
        host.programs("mnt/d")
        spec = generate(host.look(driver_root="/mnt/d"))
        places = {each.container_path: each.host_path for each in spec.container_edits.mounts}
        assert places["/usr/bin/nvidia-smi"] == "/mnt/d/nvidia-smi"

    def test_one_that_is_not_named(self, small: Callable[..., SmallHost]) -> None:
        """A driver root of the GPU operator: its links are absolute, so it has to be named."""
        host = small()
        host.whole("run/nvidia/driver/usr")
        with pytest.raises(CdiGenError) as caught:
            host.look()
        assert "--driver-root DIR (/run/nvidia/driver is there)" in str(caught.value.hint)
