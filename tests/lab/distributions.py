# SPDX-License-Identifier: Apache-2.0
"""The distributions that images of the lab are made of, each from single Debian packages.

They differ in what matters to a GPU container: the C library and its version, where its loader
looks, whether there is an ldconfig, and whether there is a shell. Each has the program ``/probe``
(see probe.c).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.lab.cache import LabUnavailableError

PROBE = Path(__file__).with_name("probe.c")
TRIPLET = "x86_64-linux-gnu"

Packages = Mapping[str, Path]
"""The folder of each unpacked package, by name."""


def _debian(tree: Path, packages: Packages) -> None:
    """Debian and Ubuntu: merged /usr, multiarch folders, ld.so.conf.d."""
    _skeleton(tree)
    _merge_usr(tree)
    copy(packages["libc6"], tree)
    copy(packages["libc-bin"], tree, "etc")
    _copy_ldconfig(packages, tree)
    _busybox(tree, packages)
    write(tree, "etc/debian_version", "12.0\n")
    _os_release(tree, "debian", "12", "")


def _rhel(tree: Path, packages: Packages) -> None:
    """Red Hat's layout: everything 64-bit in /usr/lib64, no multiarch folder."""
    _skeleton(tree)
    _merge_usr(tree)
    copy(packages["libc6-amd64"], tree, "lib64")
    _copy_ldconfig(packages, tree)
    _busybox(tree, packages)
    # The last two lines are what Red Hat's ldconfig knows without being told; this one does not.
    write(tree, "etc/ld.so.conf", "include ld.so.conf.d/*.conf\n/lib64\n/usr/lib64\n")
    (tree / "etc/ld.so.conf.d").mkdir()
    write(tree, "etc/redhat-release", "Red Hat Enterprise Linux release 9.4 (Plow)\n")
    _os_release(tree, "rhel", "9.4", "fedora")


def _alpine(tree: Path, packages: Packages) -> None:
    """Alpine's layout: musl in /lib, no merged /usr, an ldconfig that does nothing."""
    _skeleton(tree)
    for folder in ("bin", "lib", "sbin", "usr/lib", "usr/local/lib"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(_musl(packages), tree / "lib/ld-musl-x86_64.so.1")
    (tree / "lib/libc.musl-x86_64.so.1").symlink_to("ld-musl-x86_64.so.1")
    _busybox(tree, packages)
    write(tree, "sbin/ldconfig", "#!/bin/sh\nexit 0\n", mode=0o755)
    write(tree, "etc/alpine-release", "3.20.0\n")
    _os_release(tree, "alpine", "3.20.0", "")


def _distroless(tree: Path, packages: Packages) -> None:
    """Debian's C library and nothing else: no shell, no ldconfig, no ld.so.conf, no ld.so.cache."""
    _skeleton(tree)
    wanted = ("ld-linux-x86-64", "libc", "libdl", "libm", "libpthread", "librt")
    multiarch = f"lib/{TRIPLET}"
    for file in sorted((packages["libc6"] / multiarch).iterdir()):
        if file.name.partition(".")[0] in wanted:
            copy(packages["libc6"], tree, f"{multiarch}/{file.name}")
    copy(packages["libc6"], tree, "lib64")
    _os_release(tree, "debian", "12", "")


class Distribution(NamedTuple):
    """A kind of base image."""

    fill: Callable[[Path, Packages], None]
    """Fill an empty folder with the files of packages."""
    packages: tuple[str, ...]
    suite: str = "bookworm"
    """Debian's, where the packages are from."""
    to_compile: tuple[str, ...] = ()
    """Packages with a C library to compile with, where the machine's own will not do."""

    def takes(self) -> tuple[str, ...]:
        """All packages that it is made with."""
        return (*self.packages, *self.to_compile)


_GLIBC = ("busybox-static", "libc-bin", "libc6")

DISTRIBUTIONS = {
    "debian": Distribution(_debian, _GLIBC),  # glibc 2.36
    "bullseye": Distribution(  # glibc 2.31, whose ldconfig writes the older form of ld.so.cache
        _debian, _GLIBC, suite="bullseye", to_compile=("libc6-dev", "linux-libc-dev")
    ),
    "trixie": Distribution(_debian, _GLIBC, suite="trixie"),  # glibc 2.41
    # The 64-bit C library of 32-bit systems: not built for multiarch, its loader looks in
    # /lib64 and /usr/lib64 first, as on Red Hat's systems.
    "rhel": Distribution(_rhel, ("busybox-static", "libc-bin", "libc6-amd64:i386")),
    "alpine": Distribution(_alpine, ("busybox-static", "musl"), to_compile=("musl-dev",)),
    "distroless": Distribution(_distroless, ("libc6",)),
}


def make(name: str, tree: Path, packages: Packages) -> None:
    """Fill an empty folder with a distribution's files and the probe; its cache is made apart."""
    distribution = DISTRIBUTIONS[name]
    distribution.fill(tree, packages)
    compile_probe = {"alpine": _compile_with_musl, "bullseye": _compile_with_headers}
    compile_probe.get(name, _compile)(tree / "probe", packages)
    # A C library older than the compiler's would show here and not in some later test.
    subprocess.run(
        ["chroot", str(tree), "/probe", "stat", "/"], check=True, stdout=subprocess.DEVNULL
    )


def ldconfig(tree: Path) -> None:
    """Have the image's own ldconfig write its cache, where it has one that does."""
    program = tree / "sbin/ldconfig"
    if program.is_file():
        subprocess.run([str(program), "-r", str(tree)], check=True, stderr=subprocess.DEVNULL)


def cc(*arguments: str) -> None:
    """Run the machine's C compiler.

    Raises:
        LabUnavailableError: there is none.
    """
    try:
        subprocess.run(
            ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-s", *arguments], check=True
        )
    except FileNotFoundError:
        raise LabUnavailableError(
            "the lab compiles its probe with a C compiler, and cc is not here"
        ) from None


def copy(package: Path, tree: Path, *paths: str) -> None:
    """Copy files or folders of an unpacked package, or all of it, minus what no image needs."""
    for path in paths or tuple(entry.name for entry in package.iterdir()):
        source, target = package / path, tree / path
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(
                source,
                target,
                symlinks=True,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("doc", "gconv", "lintian", "locale"),
            )
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def write(tree: Path, path: str, text: str = "", *, mode: int = 0o644) -> None:
    """Write a file of an image, and the folders above it."""
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "ascii")
    file.chmod(mode)


def _compile(program: Path, _: Packages) -> None:
    cc("-o", str(program), str(PROBE), "-ldl")


def _compile_with_headers(program: Path, packages: Packages) -> None:
    """With a glibc older than the machine's, whose compiler would link its own all the same."""
    here, started = packages["libc6"] / "lib" / TRIPLET, packages["libc6-dev"] / "usr/lib" / TRIPLET
    include = [packages["libc6-dev"] / "usr/include", packages["linux-libc-dev"] / "usr/include"]
    compilers = subprocess.run(
        ["cc", "-print-file-name=include"], check=True, capture_output=True, text=True
    ).stdout.strip()
    folders = [compilers, *(str(place) for each in include for place in (each, each / TRIPLET))]
    cc(
        *("-nostdinc", *(word for each in folders for word in ("-isystem", each))),
        *("-nostdlib", "-no-pie", "-fno-stack-protector", "-o", str(program)),
        *(str(started / "crt1.o"), str(started / "crti.o"), str(PROBE)),
        *(str(here / "libdl.so.2"), str(here / "libc.so.6"), str(started / "libc_nonshared.a")),
        str(started / "crtn.o"),
    )


def _compile_with_musl(program: Path, packages: Packages) -> None:
    place = packages["musl-dev"] / "usr/lib/x86_64-linux-musl"
    include = packages["musl-dev"] / "usr/include/x86_64-linux-musl"
    cc(
        *("-nostdinc", "-isystem", str(include), "-no-pie", "-fno-stack-protector"),
        *("-nostdlib", "-Wl,-dynamic-linker=/lib/ld-musl-x86_64.so.1"),
        *("-o", str(program), str(place / "crt1.o"), str(place / "crti.o"), str(PROBE)),
        # By name, not by path: the path would become a needed library of the program.
        *("-L", str(_musl(packages).parent), "-lc", str(place / "crtn.o")),
    )


def _musl(packages: Packages) -> Path:
    return packages["musl"] / "lib/x86_64-linux-musl/libc.so"


def _copy_ldconfig(packages: Packages, tree: Path) -> None:
    # In /usr since trixie.
    (found,) = (
        path
        for path in ("sbin/ldconfig", "usr/sbin/ldconfig")
        if (packages["libc-bin"] / path).exists()
    )
    copy(packages["libc-bin"], tree, found)


def _skeleton(tree: Path) -> None:
    for folder in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"):
        (tree / folder).mkdir()
    (tree / "tmp").chmod(0o1777)
    write(tree, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    write(tree, "etc/group", "root:x:0:\n")


def _merge_usr(tree: Path) -> None:
    for folder in ("bin", "lib", "lib64", "sbin"):
        (tree / "usr" / folder).mkdir()
        (tree / folder).symlink_to(f"usr/{folder}")


def _busybox(tree: Path, packages: Packages) -> None:
    source = packages["busybox-static"]
    # In /usr since trixie.
    (program,) = (path for path in source.glob("**/busybox") if path.parent.name == "bin")
    busybox = tree / "bin/busybox"
    shutil.copy2(program, busybox)
    listed = subprocess.run([str(busybox), "--list"], check=True, capture_output=True, text=True)
    for applet in listed.stdout.split():
        if not (tree / "bin" / applet).exists():
            (tree / "bin" / applet).symlink_to("busybox")


def _os_release(tree: Path, name: str, version: str, like: str) -> None:
    write(tree, "etc/os-release", f'ID={name}\nVERSION_ID="{version}"\nID_LIKE="{like}"\n')
