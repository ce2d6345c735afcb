# SPDX-License-Identifier: Apache-2.0
"""What CUDA images have, NVIDIA's and those that are made like them.

Facts of their Dockerfiles, of `docker inspect` and of the packages that they install; the files are
the lab's own. Each library says who it is, in a string ``lab_identity`` that the probe asks for.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.lab.archives import PATH
from tests.lab.distributions import cc, write

REQUIREMENTS = Path(__file__).parents[1] / "hook/requirements_of_images.json"
"""NVIDIA_REQUIRE_CUDA of public images."""

COMPAT = "/usr/local/cuda/compat"
STUBS = "/usr/local/cuda/lib64/stubs"
FORMER = "535.104.05"
"""The driver of the host that an image was committed on."""

NOTE = {
    "format": 1,
    "CUDA Version": "13.0",
    "driver": [535, 550, 565, 570, 575, 580],
    "device": [1, 2, 7, 8, 9, 10, 11, 12, 13, 14],
}
"""What a libcuda of cuda-compat-13-0 says: the drivers and the brands of GPUs that it runs on."""

NOTE_SECTION = """\
__asm__(".section .note.cuda.fwd_compatibility,\\"\\",%note\\n.balign 4\\n.long 19, 2f-1f, 1\\n"
        ".asciz \\"NVIDIA Corporation\\"\\n.balign 4\\n1: .ascii {text}\\n2: .balign 4\\n.previous");
"""
"""C of the ELF note, its JSON text as a string literal of the assembler within one of C."""

_REQUESTS = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
_LIBRARY_PATH = "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"


def environment(release: str, **more: str) -> dict[str, str]:
    """What `nvidia/cuda:RELEASE` sets, in its order."""
    return {
        "PATH": f"/usr/local/nvidia/bin:/usr/local/cuda/bin:{PATH}",
        "NVARCH": "x86_64",
        "NVIDIA_REQUIRE_CUDA": requirement(f"nvidia/cuda:{release}"),
        "NV_CUDA_COMPAT_PACKAGE": f"cuda-compat-{'-'.join(release.split('.')[:2])}",
        "CUDA_VERSION": release,
        "LD_LIBRARY_PATH": _LIBRARY_PATH,
        **_REQUESTS,
        **more,
    }


def environment_without_requirement(**more: str) -> dict[str, str]:
    """What images set that take the toolkit from elsewhere: PyTorch's, say."""
    return {"PATH": PATH, **_REQUESTS, "LD_LIBRARY_PATH": _LIBRARY_PATH, **more}


def requirement(image: str) -> str:
    """NVIDIA_REQUIRE_CUDA of an image of the list, written out where the list has it by parts."""
    listed = json.loads(REQUIREMENTS.read_text("utf-8"))["images"]
    (found,) = (each for each in listed if each["image"] == image)
    return expression_of(found)


def expression_of(image: Mapping[str, object]) -> str:
    """The expression of an entry of the list."""
    if image["text"] != "rebuilt":
        return str(image["value"])
    branches, brands = image["branches"], image["brands"]
    assert isinstance(branches, list)
    assert isinstance(brands, list)
    pairs = [f"brand={b},driver>={n},driver<{n + 1}" for n in branches for b in brands]
    return " ".join((f"cuda>={image['cuda']}", *pairs))


def toolkit(tree: Path, release: str, *, nvidia_conf: bool = True) -> None:
    """The folders and links of NVIDIA's packages, a runtime library, and where loaders look."""
    major, minor, *_ = release.split(".")
    here = f"usr/local/cuda-{major}.{minor}"
    for name in ("cuda", f"cuda-{major}"):
        _link(tree, f"usr/local/{name}", f"/etc/alternatives/{name}")
        _link(tree, f"etc/alternatives/{name}", f"/{here}")
    libraries = f"{here}/targets/x86_64-linux/lib"
    library(tree / libraries / f"libcudart.so.{release}", f"libcudart.so.{major}", "cudart")
    _link(tree, f"{libraries}/libcudart.so.{major}", f"libcudart.so.{release}")
    _link(tree, f"{here}/lib64", "targets/x86_64-linux/lib")
    listed(tree, "000_cuda", "/usr/local/cuda/targets/x86_64-linux/lib")
    listed(tree, f"988_cuda-{major}", f"/usr/local/cuda-{major}/targets/x86_64-linux/lib")
    if nvidia_conf:
        listed(tree, "nvidia", *_LIBRARY_PATH.split(":"))


def compat(
    tree: Path,
    release: str,
    driver: str,
    *,
    note: Mapping[str, object] | None = None,
    conf: str | None = None,
    folder: str = COMPAT,
) -> None:
    """The package cuda-compat: the libraries of a driver, which the image may list for its loader.

    Args:
        tree: the image's.
        release: of CUDA.
        driver: its version.
        note: what libcuda says of the hosts it is for, since R575.
        conf: name of the file in ld.so.conf.d that lists them, if one does.
        folder: the name it lists.
    """
    place = tree / f"usr/local/cuda-{'.'.join(release.split('.')[:2])}/compat"
    for stem, soname in (
        ("libcuda", "libcuda.so.1"),
        ("libnvidia-ptxjitcompiler", "libnvidia-ptxjitcompiler.so.1"),
    ):
        file = f"{stem}.so.{driver}"
        library(place / file, soname, f"compat {driver}", note=note if stem == "libcuda" else None)
        (place / soname).symlink_to(file)
    (place / "libcuda.so").symlink_to("libcuda.so.1")
    if conf:
        listed(tree, conf, folder)


def stubs(tree: Path, release: str) -> None:
    """The stub to link programs with, under the name of the real one, and known to the loader."""
    place = f"usr/local/cuda-{'.'.join(release.split('.')[:2])}/targets/x86_64-linux/lib/stubs"
    for stem in ("libcuda", "libnvidia-ml"):
        library(tree / place / f"{stem}.so", f"{stem}.so.1", "stub")
        _link(tree, f"{place}/{stem}.so.1", f"{stem}.so")
    # As Dockerfiles of TensorFlow's have it, and many since.
    listed(tree, "z-cuda-stubs", STUBS)


def leftovers(tree: Path, folder: str) -> None:
    """The files that `docker commit` keeps of a container with a mounted driver: empty mount points,
    links that NVIDIA's hook created, and the file that it wrote below ld.so.conf.d."""
    for stem in ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"):
        # The mount point, and the links that the hook created.
        write(tree, f"{folder}/{stem}.so.{FORMER}")
        _link(tree, f"{folder}/{stem}.so.1", f"{stem}.so.{FORMER}")
        _link(tree, f"{folder}/{stem}.so", f"{stem}.so.1")
    # One mount point is missing: the user of the image deleted the empty file.
    (tree / folder / f"libnvidia-ml.so.{FORMER}").unlink()
    write(tree, "usr/bin/nvidia-smi", mode=0o755)
    write(tree, f"usr/lib/firmware/nvidia/{FORMER}/gsp_ga10x.bin")
    listed(tree, "00-nvcr-2819236471", f"/{folder}")


def listed(tree: Path, name: str, *folders: str) -> None:
    """A file of folders in ld.so.conf.d."""
    write(tree, f"etc/ld.so.conf.d/{name}.conf", "".join(f"{each}\n" for each in folders))


def library(
    file: Path, soname: str, says: str, *, note: Mapping[str, object] | None = None
) -> None:
    """A small library with a SONAME that says who it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_compiled(soname, says, "" if note is None else json.dumps(note)))


@functools.cache
def _compiled(soname: str, says: str, note: str) -> bytes:
    source = f"const char lab_identity[] = {json.dumps(says)};\n"
    # 34 is CUDA_ERROR_STUB_LIBRARY.
    source += "int cuInit(unsigned flags) { return flags ? 1 : 34; }\n"
    if note:
        # Once for the assembler, once for C.
        source += NOTE_SECTION.format(text=json.dumps(json.dumps(note))[1:-1])
    with tempfile.TemporaryDirectory() as folder:
        text, made = Path(folder, "library.c"), Path(folder, "library.so")
        text.write_text(source, "ascii")
        cc(*SHARED, f"-Wl,-soname,{soname}", "-o", str(made), str(text))
        return made.read_bytes()


# No more than a page or two each.
SHARED = (
    *("-shared", "-fPIC", "-nostdlib", "-Wl,--build-id=none", "-Wl,--hash-style=sysv"),
    "-Wl,-z,noseparate-code,-z,norelro,-z,max-page-size=4096",
)
"""Options of the compiler for a library that needs no other."""


def _link(tree: Path, path: str, text: str) -> None:
    link = tree / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(text)
