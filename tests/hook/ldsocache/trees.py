# SPDX-License-Identifier: Apache-2.0
"""Odd trees: made by hand, and drawn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.hook.conftest import TRIPLET
from tests.hook.glibc import assert_same, generator_of, glibc_cache, our_cache
from tests.hook.shared_objects import shared_object

LIB = f"usr/lib/{TRIPLET}"
FOLDERS = ("/opt/odd", f"/lib/{TRIPLET}", f"/usr/lib/{TRIPLET}", "/lib", "/usr/lib")


def planted(root: Path) -> None:
    """Make the folders of an image."""
    for folder in ("proc", "etc", "opt/odd", LIB):
        (root / folder).mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")


def put(root: Path, path: str, soname: str | None = None, machine: str = "x86_64") -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(shared_object(None if soname is None else os.fsencode(soname), machine))
    return place


def link(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).symlink_to(text)


def same_as_glibc(root: Path, folders: tuple[str, ...] = FOLDERS) -> bytes:
    theirs = glibc_cache(root, folders)
    assert_same(our_cache(root, folders, generator=generator_of(theirs)), theirs)
    return theirs


STEMS = ("liba", "libab", "libé", "ld-a", "b")
NAMES = st.builds(
    "{}{}{}".format,
    st.sampled_from(STEMS),
    st.sampled_from(["", "1", "01", "10", "-4294967297"]),
    st.sampled_from([".so", ".so.1", ".so.01", ".so.1.2", ".so.1.10", ".so.2", ".txt"]),
)
PLACES = (
    "opt/odd", LIB, "usr/lib", "opt/odd/glibc-hwcaps/x86-64-v2", "opt/odd/glibc-hwcaps/x86-64-v3",
)  # fmt: skip
FILES = st.one_of(
    st.tuples(st.just("library"), NAMES | st.none(), st.sampled_from(["x86_64", "x86_64", "i386", "x32", "aarch64"])),
    st.tuples(st.just("link"), NAMES, st.sampled_from(["", "", "", "./", "../", f"/{LIB}/", "/opt/odd/"])),
    st.tuples(st.sampled_from(["text", "folder"])),
)  # fmt: skip
TREES = st.dictionaries(st.tuples(st.sampled_from(PLACES), NAMES), FILES, max_size=14)


def grow(root: Path, files: dict[tuple[str, str], tuple[Any, ...]]) -> None:
    """Put into a root what a drawn tree says."""
    for (folder, name), (kind, *what) in files.items():
        place = root / folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink() or place.exists():
            continue
        match kind:
            case "library":
                soname, machine = what
                place.write_bytes(
                    shared_object(None if soname is None else os.fsencode(soname), machine)
                )
            case "link":
                target, prefix = what
                place.symlink_to(prefix + target)
            case "text":
                place.write_text("GROUP ( AS_NEEDED ( libm.so.6 ) )\n" * 9)
            case "folder":
                place.mkdir()
