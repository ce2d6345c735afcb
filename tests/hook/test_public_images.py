# SPDX-License-Identifier: Apache-2.0
"""Images of public reports, each rebuilt from the few files that matter.

The hook gets the options that `cdi-gen generate` writes for a host of each layout, and the driver's
libraries are at the paths of that spec. A linker, the image's own loader, and programs with a fixed
path must all find the driver's libraries, whatever the layout of the image is.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.cdi.model import ContainerEdits
from cdi_gen.generate import generate
from cdi_gen.inventory import json_form
from tests.hook.conftest import Container
from tests.lab import cuda
from tests.lab.distributions import write
from tests.lab.probe import Answers, answers, probe

pytest_plugins = ["tests.lab.fixtures"]
pytestmark = pytest.mark.engine

GOLDEN = Path(__file__).parents[2] / "specs/golden"
DEBIAN, RED_HAT, ARCH = "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"
LAYOUTS = {"Debian": DEBIAN, "Red Hat": RED_HAT, "Arch": ARCH}
"""Where a host has its driver, and an image its libraries."""

DRIVER = "driver"
"""The text that the driver's libraries return."""

SONAMES = {
    "libcuda": "libcuda.so.1",
    "libnvidia-ml": "libnvidia-ml.so.1",
    "libnvidia-encode": "libnvidia-encode.so.1",
    "libGLX_nvidia": "libGLX_nvidia.so.0",
}
"""The mounted libraries; links to other libraries would dangle, and so are not created."""

LINKED = ("cuda", "nvidia-ml", "nvidia-encode")
"""Given to ld with `-l`."""

ASKED = (*SONAMES.values(), "libGLX_indirect.so.0")
PATHS = [f"{home}/libcuda.so{end}" for home in LAYOUTS.values() for end in ("", ".1")]
"""Of NUMBA_CUDA_DRIVER, LD_PRELOAD, TRITON_LIBCUDA_PATH, CMake's caches, and `gcc` by its own list."""


def homes(tree: Path) -> list[Path]:
    """The library directories of Debian's and of Red Hat's images."""
    directories = [tree / home.lstrip("/") for home in (DEBIAN, RED_HAT)]
    for home in directories:
        home.mkdir(parents=True, exist_ok=True)
    return directories


def an_empty_name_for_linkers(tree: Path) -> None:
    """arborx/ArborX#1316 (2025): ld reads it, and takes it for a file that was cut off."""
    for home in homes(tree):
        (home / "libcuda.so").touch()


def mesas_indirect_glx(tree: Path) -> None:
    """NVIDIA/nvidia-container-toolkit#772 (2024): a link of that name, to another vendor's library."""
    for home in homes(tree):
        cuda.library(home / "libGLX_mesa.so.0", "libGLX_mesa.so.0", "mesa")
        (home / "libGLX_indirect.so.0").symlink_to("libGLX_mesa.so.0")


def a_driver_package(tree: Path) -> None:
    """BIOP/BIOP-desktop#2 (2024): nvidia-opencl-dev brought libnvidia-compute-535."""
    for home in homes(tree):
        for stem, soname in SONAMES.items():
            cuda.library(home / f"{stem}.so.535.161.07", soname, "image")
            (home / soname).symlink_to(f"{stem}.so.535.161.07")
            (home / f"{stem}.so").symlink_to(soname)


def copies_under_the_sonames(tree: Path) -> None:
    """lbcb-sci/herro#76 (2025): the driver of the host that built the image, copied into it."""
    for home in homes(tree):
        for soname in SONAMES.values():
            cuda.library(home / soname, soname, "image")


def links_by_hand(tree: Path) -> None:
    """NVIDIA/nvidia-container-toolkit#675 (2024): `ln -sf`, to the file of one driver's version."""
    for home in homes(tree):
        (home / "libcuda.so.1").symlink_to(f"{home.name}/libcuda.so.535.183.01")
        (home / "libcuda.so").symlink_to("/usr/lib64/libcuda.so.1")


def directories(tree: Path) -> None:
    """What dockerd makes of `-v /usr/lib/…/libcuda.so.1:…` without such a file; `docker commit` keeps it."""
    for home in homes(tree):
        (home / "libcuda.so.1").mkdir()


def one_directory_under_two_names(tree: Path) -> None:
    """89luca89/distrobox#2126 (2026): Arch's /usr/lib64 is a link."""
    for file in (tree / "usr/lib64").iterdir():
        file.rename(tree / "usr/lib" / file.name)
    (tree / "usr/lib64").rmdir()
    (tree / "usr/lib64").symlink_to("lib")


def libraries_in_a_store(tree: Path) -> None:
    """cachix/devenv#873 (2023), NixOS/nixpkgs#338511 (2024): a link out of /usr, absolute."""
    store = tree / "nix/store/lf0wpjrj8yx4gsmw2s3xfl58ixmqk8qa"
    store.mkdir(parents=True)
    (tree / "usr/lib").rename(store / "lib")
    (tree / "usr/lib").symlink_to(f"/nix/store/{store.name}/lib")


def a_cache_elsewhere(tree: Path) -> None:
    """Images for read-only roots: /etc/ld.so.cache is a link into /var."""
    cache = tree / "etc/ld.so.cache"
    (tree / "var/cache").mkdir(parents=True, exist_ok=True)
    cache.rename(tree / "var/cache/ld.so.cache")
    cache.symlink_to("/var/cache/ld.so.cache")


def nothing_for_the_loader(tree: Path) -> None:
    """NVIDIA/nvidia-container-toolkit#1326 (2025): neither cache nor configuration."""
    (tree / "etc/ld.so.cache").unlink()
    (tree / "etc/ld.so.conf").unlink()
    shutil.rmtree(tree / "etc/ld.so.conf.d")


def stubs_in_the_environment(tree: Path) -> None:
    """sdake in vllm-project/vllm#6864 (2025): stubs that the loader knows, of a toolkit's package."""
    cuda.toolkit(tree, "12.4.1")
    cuda.stubs(tree, "12.4.1")


REPORTS = [
    an_empty_name_for_linkers,
    mesas_indirect_glx,
    a_driver_package,
    copies_under_the_sonames,
    links_by_hand,
    directories,
    one_directory_under_two_names,
    libraries_in_a_store,
    a_cache_elsewhere,
    nothing_for_the_loader,
    stubs_in_the_environment,
]


@functools.cache
def edits_for(layout: str) -> ContainerEdits:
    """The spec of a host of this layout with one GPU."""
    text = (GOLDEN / "flat-550-1gpu/inventory.json").read_text("utf-8")
    return generate(json_form.load(text.replace(DEBIAN, LAYOUTS[layout]))).container_edits


def mounting(container: Container, layout: str) -> list[str]:
    """Commands that mount the driver's libraries as a runtime does, links of the image followed."""
    within = f"/usr/sbin/chroot {shlex.quote(str(container.root))} /bin/busybox"
    commands = []
    for mount in edits_for(layout).mounts:
        home, _, name = mount.container_path.rpartition("/")
        stem, _, version = name.partition(".so.")
        if stem in SONAMES and version and home == LAYOUTS[layout]:
            source = container.bundle / "driver" / name
            cuda.library(source, SONAMES[stem], DRIVER)
            commands += [
                f"{within} mkdir -p {home}; {within} touch {home}/{name}",
                f"point={shlex.quote(str(container.root))}$({within} realpath {home}/{name})",
                f'mount --bind {shlex.quote(str(source))} "$point"',
            ]
    return commands


def linking(container: Container) -> list[str]:
    """Commands that ask the machine's ld within the image; its answer reads as the probe's do."""
    root = shlex.quote(str(container.root))
    libraries = ":".join(f"/machine{each}" for each in (f"/{DEBIAN[5:]}", DEBIAN, RED_HAT))
    loader, ld = (os.path.realpath(each) for each in ("/lib64/ld-linux-x86-64.so.2", "/usr/bin/ld"))
    linker = f"/machine{loader} --library-path {libraries} /machine{ld} -shared -o /dev/null"
    link = f"LC_ALL=C /usr/sbin/chroot {root} {linker}"
    return [
        f"mkdir {root}/machine; mount --rbind / {root}/machine",
        *(f"{link} --trace -l{name} 2>&1 | sed 's/^/ld\t{name}\t/'" for name in LINKED),
    ]


def asked(container: Container, layout: str) -> Answers:
    """The libraries that are found in the container after two runs of the hook."""
    again = 'env -u PWD -u OLDPWD "$@" < ../state || status=$?'
    (container.bundle / "state").write_bytes(container.state())
    questions = probe(("who", *ASKED), ("listed", "libcuda.so.1"), ("dlopen", *PATHS))
    ask = shlex.join(["env", "-i", "/usr/sbin/chroot", str(container.root), *questions])
    after = [again, *linking(container), ask, 'exit "$status"']
    container.with_mounts("\n".join(mounting(container, layout)), "\n".join(after))
    (hook,) = edits_for(layout).hooks
    ended = container.hook(*hook.args[1:])
    assert (ended.status, ended.said) == (0, ""), ended
    return answers(ended.stdout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("image", ["debian", "rhel"])
@pytest.mark.parametrize("report", REPORTS, ids=lambda each: each.__name__)
def test_the_driver_is_found(
    container: Container,
    files_of: Callable[[str], Path],
    report: Callable[[Path], None],
    image: str,
    layout: str,
) -> None:
    shutil.rmtree(container.root)
    subprocess.run(["cp", "-a", files_of(image), container.root], check=True)
    write(container.root, "etc/ld.so.conf.d/.keep")
    report(container.root)
    answers = asked(container, layout)
    assert {name: answers["who", name][3:] for name in ASKED} == dict.fromkeys(ASKED, (DRIVER,)), (
        answers
    )
    assert {path: answers["dlopen", path][0] for path in PATHS} == dict.fromkeys(PATHS, "ok"), (
        answers
    )
    assert answers["listed", "libcuda.so.1"] == (answers["who", "libcuda.so.1"][1],)
    for name in LINKED:
        (linked,) = answers["ld", name]
        assert linked.endswith(f"/lib{name}.so"), answers
