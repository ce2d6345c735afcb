# SPDX-License-Identifier: Apache-2.0
"""The loader finds the driver's libraries before the image's; other libraries keep their order.

The tests ask real loaders: glibc 2.31, 2.36 and 2.41 in Debian's and Red Hat's layout, and musl.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.hook.conftest import MACHINE, TRIPLET, Container, fingerprint
from tests.hook.shared_objects import shared_object
from tests.hook.test_loading import CHROOT
from tests.lab import archives, cuda

pytestmark = pytest.mark.engine

IMAGES = ("debian", "rhel", "distroless", "alpine", "cuda-compat", "cuda-devel", "committed")
"""Minimal images, and three of the zoo: glibc 2.31, glibc 2.41 with stubs, files of a driver."""

FOLDERS = ("/usr/lib64", f"/usr/lib/{TRIPLET}", "/usr/lib", "/opt/odd")
"""Driver directories of Red Hat, Debian, Arch, and one that no image searches."""

COMPAT = "/usr/local/cuda-12.8/compat"
NAMES = ("libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1")
OTHER = "libimage.so.6"
"""A library of the image's, in two versions."""
MUSL_PATH = f"etc/ld-musl-{MACHINE}.path"


class Host:
    """A driver whose files are mounted one by one, as by a CDI spec."""

    def __init__(self, container: Container, folder: str, version: str = "550.1") -> None:
        self.container = container
        self.folder = folder
        self.files = container.bundle / f"driver-{version}"
        self.words: list[str] = []
        for stem in ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"):
            cuda.library(self.files / f"{stem}.so.{version}", f"{stem}.so.1", f"driver {version}")
            self.words += ["--link", f"{stem}.so.{version}::{folder}/{stem}.so.1"]
        self.words += ["--link", f"libcuda.so.1::{folder}/libcuda.so", "--folder", folder]
        self.before = ":"
        """A script that runs before its files are mounted."""

    def mounts(self) -> str:
        """A script that mounts the driver."""
        lines = [self.before, f"mkdir -p {self.container.root}{self.folder}"]
        for file in sorted(self.files.iterdir()):
            target = f"{self.container.root}{self.folder}/{file.name}"
            lines += [f": >> {target}; mount --bind {file} {target}"]
        return "\n".join(lines)

    def start(self, *words: str, then: str = ":") -> None:
        """Run the hook, then a script in the container, while the driver is mounted."""
        self.container.with_mounts(self.mounts(), f'{then}\nexit "$status"')
        ended = self.container.hook("create-container", *self.words, *words)
        assert (ended.status, ended.said) == (0, "")


class Found(NamedTuple):
    """The library that a program loaded for each name, by the text that the library returns."""

    at_once: dict[str, str]
    later: dict[str, str]
    """After the image's own ldconfig, or the machine's where it has none, was run."""


def ask(host: Host, *words: str) -> Found:
    """Start a container and ask its loader for the libraries."""
    root, answers = host.container.root, host.container.bundle / "answers"
    commands = " -- ".join(f"who {name}" for name in (*NAMES, OTHER))
    probe = f"env -i {CHROOT} {root} /probe {commands}"
    own = f"{CHROOT} {root} /sbin/ldconfig"
    then = f"""
        {probe} > {answers}-1
        if [ -x {root}/sbin/ldconfig ]; then {own}; else ldconfig -r {root}; fi 2>&-
        {probe} > {answers}-2
    """
    host.start(*words, then=then)
    found = []
    for number in (1, 2):
        lines = [line.split("\t") for line in Path(f"{answers}-{number}").read_text().splitlines()]
        found.append({line[1]: line[-1] for line in lines})
    return Found(*found)


@pytest.fixture
def image(
    container: Container, image_archives: dict[str, Path], zoo_archives: dict[str, Path]
) -> Callable[[str], Container]:
    """Fill the container with an image of the lab."""

    def fill(name: str) -> Container:
        archive = {**image_archives, **zoo_archives}[name]
        subprocess.run(["rm", "-rf", container.root], check=True)
        container.root.mkdir()
        layer = archives.layer_of(archive)
        subprocess.run(["tar", "-x", "-C", container.root], input=layer, check=True)
        return container

    return fill


def system_folder(root: Path) -> str:
    """The library directory of the image's distribution."""
    folders = (f"usr/lib/{TRIPLET}", f"lib/{TRIPLET}", "usr/lib64", "usr/lib")
    return next(folder for folder in folders if (root / folder).is_dir())


def hide(container: Container) -> None:
    """List an older libcuda, a stub and a newer library of the image's before all other folders."""
    root = container.root
    cuda.library(root / "opt/newer" / OTHER, OTHER, "the newer")
    cuda.library(root / system_folder(root) / OTHER, OTHER, "the older")
    for name in ("libcuda.so.1", "libnvidia-ptxjitcompiler.so.1"):
        cuda.library(root / COMPAT[1:] / name, name, "compat")
        cuda.library(root / "opt/stubs" / name, name, "stub")
        for level in ("x86-64-v2", "x86-64-v3"):
            cuda.library(root / f"opt/stubs/glibc-hwcaps/{level}/{name}", name, f"stub {level}")
    cuda.library(root / "opt/stubs/libcuda.so", "libcuda.so", "stub without a version")
    listed = (COMPAT, "/opt/stubs", "/opt/newer")
    if (root / f"lib/ld-musl-{MACHINE}.so.1").exists():
        folders = (*listed, "/lib", "/usr/local/lib", "/usr/lib")
        container.write(MUSL_PATH, "".join(f"{folder}\n" for folder in folders))
        return
    if not (root / "etc/ld.so.conf").exists():
        container.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
    cuda.listed(root, "00-first", *listed)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", IMAGES)
def test_the_driver_is_found_and_the_rest_as_before(
    image: Callable[[str], Container], name: str, folder: str
) -> None:
    container = image(name)
    hide(container)
    answers = ask(Host(container, folder))
    expected = dict.fromkeys(NAMES, "driver 550.1") | {OTHER: "the newer"}
    assert answers.at_once == expected
    assert answers.later == expected


@pytest.mark.parametrize(
    ("brand", "libcuda"), [("tesla", "compat 570.124.06"), ("geforce", "driver 550.1")]
)
def test_forward_compatibility_decides_by_its_own_rule(
    image: Callable[[str], Container], brand: str, libcuda: str
) -> None:
    """The image's own order has no effect; only the rule of enable-cuda-compat decides."""
    container = image("cuda-compat")
    folder = f"/usr/lib/{TRIPLET}"
    words = ("--host-driver-version", "550.1", "--host-gpu-brand", brand)
    for answer in ask(Host(container, folder), *words):
        assert answer["libcuda.so.1"] == answer["libnvidia-ptxjitcompiler.so.1"] == libcuda
        assert answer["libnvidia-ml.so.1"] == "driver 550.1"


@pytest.mark.parametrize("name", ["debian", "alpine"])
def test_a_volume_over_the_systems_folder_is_no_driver(
    image: Callable[[str], Container], name: str
) -> None:
    """A mount over a whole directory belongs to the driver, but not over a directory with libc."""
    container = image(name)
    hide(container)
    folder = f"/{system_folder(container.root)}"
    host = Host(container, folder)
    directory, volume = f"{container.root}{folder}", f"{container.bundle}/volume"
    host.before = f"cp -a {directory} {volume}; mount --bind {volume} {directory}"
    host.words = ["--folder", folder]  # a link in a volume is left out, and said
    assert [answer[OTHER] for answer in ask(host)] == ["the newer"] * 2


def test_no_links_are_written_if_no_library_is_hidden(image: Callable[[str], Container]) -> None:
    container = image("cuda-base")
    ask(Host(container, f"/usr/lib/{TRIPLET}"))
    assert not (container.root / "etc/cdi-gen").exists()
    assert not (container.root / "etc/ld.so.conf.d/00-cdi-gen.conf").exists()


@pytest.mark.parametrize("name", ["debian", "alpine"])
def test_a_second_start_changes_nothing(image: Callable[[str], Container], name: str) -> None:
    container = image(name)
    hide(container)
    host = Host(container, "/usr/lib")
    host.start()
    once = fingerprint(container.root / "etc")
    host.start()
    assert fingerprint(container.root / "etc") == once


@pytest.mark.parametrize("name", ["debian", "rhel", "alpine"])
def test_an_image_that_was_committed_on_another_host(
    image: Callable[[str], Container], name: str
) -> None:
    """Links to the libraries of the former driver are removed."""
    container = image(name)
    hide(container)
    former = Host(container, "/usr/lib64", "535.1")
    cuda.library(former.files / "libgone.so.535.1", "libgone.so.1", "driver 535.1")
    cuda.library(container.root / "opt/stubs/libgone.so.1", "libgone.so.1", "stub")
    former.start("--link", "libgone.so.535.1::/usr/lib64/libgone.so.1")
    expected = dict.fromkeys(NAMES, "driver 550.1") | {OTHER: "the newer"}
    assert ask(Host(container, "/usr/lib")) == (expected, expected)
    for link in (container.root / "etc/cdi-gen").rglob("lib*"):
        assert str(link.readlink().parent) in {"/usr/lib", "/lib"}, link
    if name == "alpine":
        # An empty file is left of each mount, and musl's loader would take it.
        return
    # A driver in a folder of its own, and an image that hides nothing any more.
    for conf in ("etc/ld.so.conf.d/00-first.conf", MUSL_PATH):
        (container.root / conf).unlink(missing_ok=True)
    Host(container, "/opt/odd").start()
    assert not list((container.root / "etc/cdi-gen").rglob("lib*"))
    for file in (container.root / "etc").rglob("*cdi-gen.conf"):
        assert file.read_text() == "/opt/odd\n"


@pytest.mark.parametrize(
    "conf",
    [
        "/usr/local/lib64\n/opt/stubs\ninclude /etc/ld.so.conf.d/*.conf\n",
        "/opt/stubs\n",
        "# nothing\n\n",
        "include /etc/other.conf\ninclude /etc/ld.so.conf.d/*.conf\n",
    ],
    ids=["SUSE", "overwritten", "empty", "another first"],
)
@pytest.mark.parametrize("folder", [f"/usr/lib/{TRIPLET}", "/opt/odd"])
def test_a_configuration_that_reads_other_folders_first(
    image: Callable[[str], Container], conf: str, folder: str
) -> None:
    """A later ldconfig reads what the hook wrote, and reads it first."""
    container = image("debian")
    hide(container)
    (container.root / "etc/ld.so.conf.d/00-first.conf").unlink()
    container.write("etc/ld.so.conf", conf)
    container.write("etc/other.conf", "/opt/stubs\n")
    for answer in ask(Host(container, folder)):
        assert {name: answer[name] for name in NAMES} == dict.fromkeys(NAMES, "driver 550.1")
    text = container.read("/etc/ld.so.conf")
    if conf.startswith("#") and folder != "/opt/odd":
        assert text == conf, "nothing is hidden, nothing is written"
        return
    assert text == "include /etc/ld.so.conf.d/00-cdi-gen*.conf\n" + conf
    Host(container, folder).start()
    assert container.read("/etc/ld.so.conf") == text


def test_a_folder_that_is_mounted_as_a_whole(image: Callable[[str], Container]) -> None:
    """Some hosts mount the driver's directory as a whole, at a path that CUDA images list."""
    container = image("cuda-base")
    hide(container)
    host = Host(container, "/usr/local/nvidia/lib64")
    directory = container.root / "usr/local/nvidia/lib64"
    for file in host.files.iterdir():
        (host.files / file.name.replace("550.1", "1")).symlink_to(file.name)
    (host.files / "libcuda.so").symlink_to("libcuda.so.1")
    host.mounts = lambda: f"mkdir -p {directory}; mount --bind {host.files} {directory}"  # type: ignore[method-assign]
    host.words = ["--folder", host.folder]
    expected = dict.fromkeys(NAMES, "driver 550.1") | {OTHER: "the newer"}
    assert ask(host) == (expected, expected)


def test_in_place_of_nvidia_cdi_hook(image: Callable[[str], Container]) -> None:
    """Specs of nvidia-ctk run a process for each step, and give only directories to update-ldcache."""
    container = image("rhel")
    hide(container)
    host = Host(container, "/usr/lib64")
    host.start()
    links = [word for word in host.words if word != "--folder" and not word.startswith("/")]
    container.with_mounts(host.mounts())
    assert container.hook("create-symlinks", *links).status == 0
    assert container.hook("update-ldcache", "--folder", "/usr/lib64").status == 0
    (directory,) = (container.root / "etc/cdi-gen/glibc").iterdir()
    assert str((directory / "libcuda.so.1").readlink()) in {
        "/usr/lib64/libcuda.so.1",
        "/lib64/libcuda.so.1",
    }


def test_with_the_hosts_ldconfig(image: Callable[[str], Container]) -> None:
    container = image("debian")
    hide(container)
    expected = dict.fromkeys(NAMES, "driver 550.1") | {OTHER: "the newer"}
    host = Host(container, f"/usr/lib/{TRIPLET}")
    assert ask(host, "--ldconfig-path", "/sbin/ldconfig") == (expected, expected)


def test_libraries_of_two_kinds(container: Container) -> None:
    """i386 and x86-64 libraries have the same names, and links of their own."""
    folders = {"x86_64": f"/usr/lib/{TRIPLET}", "i386": "/usr/lib/i386-linux-gnu"}
    mounts = []
    for machine, folder in folders.items():
        content = shared_object(b"libcuda.so.1", machine)
        driver = container.bundle / f"libcuda-{machine}"
        driver.write_bytes(content)
        container.write(f"/opt/stubs-{machine}/libcuda.so.1", content)
        container.write(f"{folder}/libcuda.so.1")
        mounts += [f"mount --bind {driver} {container.root}{folder}/libcuda.so.1"]
    listed = "".join(f"/opt/stubs-{machine}\n" for machine in folders)
    container.write(
        "/etc/ld.so.conf", listed + "".join(f"{directory}\n" for directory in folders.values())
    )
    container.with_mounts("\n".join(mounts))
    words = [word for folder in folders.values() for word in ("--folder", folder)]
    ended = container.hook("update-ldcache", *words)
    assert (ended.status, ended.said) == (0, "")
    links = (container.root / "etc/cdi-gen").rglob("libcuda*")
    assert {link.parent.name: str(link.readlink()) for link in links} == {
        "303": f"/usr/lib/{TRIPLET}/libcuda.so.1",
        "3": "/usr/lib/i386-linux-gnu/libcuda.so.1",
    }
