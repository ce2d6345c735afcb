# SPDX-License-Identifier: Apache-2.0
"""Drivers where distributions and installers put them, found without any option.

Each host has the files of Debian's real driver, in the places where the distribution that it is
named after has its own. What is asked of all of them: every library, nvidia-smi, the firmware and
the ICD files, each where a container looks for it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.host.driver_tree import SmallHost, link, require_whole

pytestmark = pytest.mark.host

SYSROOT = "x86_64-bottlerocket-linux-gnu/sys-root"
STORE = "/nix/store/7q1lmpj1xq9gs5zk2a3f0yd1nwcbz8hi"
GUIX = "/gnu/store/1x5ah9qbkrdk4sm7mvpk3gfk9rqkcq2x"


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
    host.move("home/kubernetes/bin/nvidia/share/vulkan", "home/kubernetes/bin/nvidia/vulkan")


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


LAYOUTS = (
    *(bottlerocket, bottlerocket_of_several_branches, talos, flatcar, container_linux),
    *(clear_linux, nixos_datacenter, guix, gentoo, void, slackware, silverblue),
    *(container_optimized_os, kubernetes_engine, truenas, ubuntu_core, glibc_beside_musl),
    *(mageia, exherbo, bright_cluster_manager, cray),
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
