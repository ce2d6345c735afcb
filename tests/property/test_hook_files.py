# SPDX-License-Identifier: Apache-2.0
"""Laws of the hook's readers and writers of binary files: ELF, and the loader's cache."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from cdi_base import elf
from cdi_hook.ldso import cache_file
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS
from tests.hook.shared_objects import MACHINES, note, shared_object

NAMES = st.binary(min_size=1, max_size=30).map(lambda name: name.translate(None, b"\0/"))
FOLDERS = st.lists(NAMES.filter(bool), min_size=1, max_size=3).map(
    lambda parts: b"/" + b"/".join(parts)
)
LIBRARIES = st.lists(
    st.tuples(FOLDERS, NAMES.filter(bool), st.sampled_from([3, 0x303, 0x803, 0xA03])), max_size=12
)


def opened(content: bytes, read: Callable[[int], object]) -> object:
    descriptor = os.memfd_create("elf")
    try:
        os.write(descriptor, content)
        return read(descriptor)
    finally:
        os.close(descriptor)


class TestElf:
    @given(st.none() | NAMES, st.sampled_from(sorted(MACHINES)), st.none() | st.integers(0, 15))
    def test_what_was_built_in_is_read(
        self, soname: bytes | None, machine: str, isa_needed: int | None
    ) -> None:
        content = shared_object(soname, machine, isa_needed=isa_needed)
        library = opened(content, elf.shared_library)
        assert isinstance(library, elf.SharedLibrary)
        bits, number, flags = MACHINES[machine]
        assert (library.bits, library.machine, library.flags) == (bits, number, flags)
        assert library.soname == soname
        if isa_needed is None:
            assert library.isa_level == 0

    @given(st.binary(max_size=40), st.sampled_from([4, 8]), st.binary(max_size=9))
    def test_a_note_is_read(self, description: bytes, align: int, other: bytes) -> None:
        notes = note(b"GNU\0", other, align) + note(b"NVIDIA Corporation\0", description, align)
        content = shared_object(b"x", notes=notes, note_align=align)
        found = opened(content, lambda file: elf.note(file, b".note.test"))
        assert found == description.strip(b"\0")

    @settings(max_examples=200)
    @given(st.sampled_from(SEEDS["read-elf"]), st.data())
    def test_a_damaged_one_is_no_exception(self, content: bytes, data: st.DataObject) -> None:
        TARGETS["read-elf"](damaged(content, data))


class TestCache:
    @given(LIBRARIES)
    def test_what_was_written_is_read(self, libraries: list[tuple[bytes, bytes, int]]) -> None:
        entries = [
            cache_file.Entry(name, folder + b"/" + name, flags) for folder, name, flags in libraries
        ]
        cache = cache_file.parse(cache_file.build(entries, []))
        assert cache is not None
        expected: dict[bytes, set[bytes]] = {}
        for folder, name, _ in libraries:
            expected.setdefault(folder, set()).add(name)
        assert {folder: set(names) for folder, names in cache.folders.items()} == expected
        assert cache.generator == cache_file.GENERATOR

    @given(LIBRARIES)
    def test_the_order_of_equal_names_is_all_that_matters(
        self, libraries: list[tuple[bytes, bytes, int]]
    ) -> None:
        unlike = list(
            {(name, flags): (folder, name, flags) for folder, name, flags in libraries}.values()
        )
        entries = [
            cache_file.Entry(name, folder + b"/" + name, flags) for folder, name, flags in unlike
        ]
        assert cache_file.build(entries, []) == cache_file.build(entries[::-1], [])

    @settings(max_examples=200)
    @given(st.sampled_from(SEEDS["read-cache"]), st.data())
    def test_a_damaged_one_is_no_exception(self, content: bytes, data: st.DataObject) -> None:
        TARGETS["read-cache"](damaged(content, data))


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """The content with some of its words replaced, as an attacker would, or cut off."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content)))
        word = data.draw(st.sampled_from([1, 2, 4, 8]))
        number = data.draw(
            st.sampled_from([0, 1, 2**15, 2**31, 2**32 - 1, 2**63]) | st.integers(0, 99)
        )
        changed[at : at + word] = (number % 256**word).to_bytes(word, "little")
    return bytes(changed[: data.draw(st.integers(len(content) // 2, len(content)) | st.just(None))])
