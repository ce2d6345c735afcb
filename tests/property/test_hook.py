# SPDX-License-Identifier: Apache-2.0
"""Laws of the hook: what it makes of any input, and where any path in any image leads."""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cdi_base import strict_json
from cdi_base.rootfs import resolve
from cdi_base.rootfs.rootfs import RootFs
from cdi_hook import arguments
from cdi_hook.ldso import conf
from cdi_hook.steps import create_symlinks
from tests.fuzz.targets import Files, refused, tried

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
OBJECTS = st.dictionaries(st.text(), JSON, max_size=5)


class TestState:
    @given(OBJECTS, st.sampled_from(["utf-8", "utf-8-sig"]), st.sampled_from(["", " ", "\n\t\r "]))
    def test_every_json_object_is_read(
        self,
        value: dict[str, Any],
        coding: str,
        around: str,
    ) -> None:
        for ascii_only in (True, False):
            text = around + json.dumps(value, ensure_ascii=ascii_only) + around
            try:
                content = text.encode(coding)
            except UnicodeEncodeError:
                continue
            assert strict_json.parse_object(content, "it") == value

    @given(OBJECTS, st.data())
    def test_what_is_not_one_is_refused_in_one_way(
        self,
        value: dict[str, Any],
        data: st.DataObject,
    ) -> None:
        content = bytearray(json.dumps(value).encode())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(content)))
            content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        read_or_refused(bytes(content))

    @given(st.binary(max_size=64))
    @example(b'{"a": 1, "a": 2}')
    @example(b'{"a": NaN}')
    @example(b"[" * 200_000)
    @example(b'{"a":' * 200_000)
    @example(b'{"a": "\\ud800"}')
    @example(b"{" + b"9" * 5000 + b"}")
    @example(b'{"a": ' + b"9" * 5000 + b"}")
    def test_any_bytes(self, content: bytes) -> None:
        read_or_refused(content)


def read_or_refused(content: bytes) -> None:
    """An object that `json` reads too, or a refusal."""
    value = tried(strict_json.parse_object, content, "it")
    assert refused(value) or same(value, json.loads(content.decode("utf-8-sig")))


def same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other and type(one) is type(other)


OPTIONS = ("--folder", "--link", "--ldconfig-path")


class TestArguments:
    @given(st.lists(st.tuples(st.sampled_from(OPTIONS), st.text(), st.booleans())))
    def test_what_is_given_is_read_in_order(
        self, given_options: list[tuple[str, str, bool]]
    ) -> None:
        words: list[str] = []
        for name, value, joined in given_options:
            words += [f"{name}={value}"] if joined else [name, value]
        expected: dict[str, list[str]] = {name: [] for name in OPTIONS}
        for name, value, _ in given_options:
            expected[name].append(value)
        assert arguments.parse(words, OPTIONS) == expected

    @given(st.lists(st.text(max_size=8) | st.sampled_from([*OPTIONS, "--folder=x", "--", "-"])))
    def test_any_words(self, words: list[str]) -> None:
        options = tried(arguments.parse, words, OPTIONS)
        assert refused(options) or list(options) == list(OPTIONS)

    @given(st.text(alphabet=st.sampled_from("/.ab:\n\x7f ") | st.characters()))
    def test_a_path_that_is_let_through(self, text: str) -> None:
        path = tried(arguments.checked_path, text)
        if refused(path):
            return
        assert path.startswith("/")
        assert ".." not in path.split("/")
        assert path == "/" or not path.endswith("/")
        assert not any(ord(char) < 32 or ord(char) == 127 for char in path)
        assert arguments.checked_path(path) == path

    @given(st.text(alphabet=st.sampled_from("/.ab:") | st.characters()))
    def test_a_link_that_is_let_through(self, text: str) -> None:
        link = tried(create_symlinks.Link, text)
        if refused(link):
            return
        assert link.path.startswith("/")
        assert link.path.rpartition("/")[2] not in {"", ".", ".."}
        assert link.target


NAMES = st.text(alphabet="abc.-_*?[]!\\é\udcff", min_size=1, max_size=12)
PATTERNS = st.text(alphabet="abc.-_*?é\udcff", min_size=1, max_size=12)
FILES = ["/etc/ld.so.conf", "/etc/ld.so.conf.d/a.conf", "/etc/ld.so.conf.d/b.conf", "/opt/c"]
LINES = st.sampled_from(
    [b"include /etc/ld.so.conf.d/*.conf", b"include ld.so.conf.d/?.conf /opt/c", b"include /opt/*",
     b"include *", b"include\t/etc/ld.so.conf", b"include", b"/usr/lib # why", b"/a=libc6", b"hwcap 1 x"]
) | st.binary(max_size=20)  # fmt: skip


class TestLoaderConfiguration:
    @given(NAMES, PATTERNS)
    def test_patterns_match_as_the_shells_do(self, name: str, pattern: str) -> None:
        expected = fnmatch.fnmatchcase(name, pattern)
        if name.startswith(".") and not pattern.startswith("."):
            expected = False
        assert conf._matches(name, pattern) is expected

    @given(st.text("a*?", max_size=255), st.text("ab", max_size=255))
    @example("*a" * 120, "a" * 255)
    def test_a_pattern_has_an_end(self, pattern: str, name: str) -> None:
        matches = tried(conf._matches, name, pattern)
        assert isinstance(matches, bool) or "takes too long" in str(matches)

    @given(st.fixed_dictionaries({}, optional=dict.fromkeys(FILES, st.lists(LINES, max_size=6))))
    def test_any_files(self, files: dict[str, list[bytes]]) -> None:
        rootfs = Files({path: b"\n".join(lines) for path, lines in files.items()})
        listed = conf.directories(rootfs, excluded="/etc/ld.so.conf.d/b.conf")  # type: ignore[arg-type]
        if conf.CONF not in files:
            assert listed is None
            return
        assert listed is not None
        assert rootfs.reads <= len(FILES) - 1
        assert len(listed) == len(set(listed))
        for folder in listed:
            assert folder.startswith("/")
            assert not set(folder) & set("\n\0#")
            assert folder == folder.strip(" \t\r\f\v")

    @given(st.lists(NAMES.map("/opt/{}".format), unique=True, max_size=20))
    def test_what_is_listed_is_read_back(self, folders: list[str]) -> None:
        text = "".join(f"{folder}\n" for folder in folders)
        rootfs = Files({conf.CONF: os.fsencode(text)})
        assert conf.directories(rootfs, excluded="") == folders  # type: ignore[arg-type]


# What is where in a tree: a directory, a file of some content, or a link of some text.
PARTS = st.sampled_from(["a", "b", "c", "d"])
PLACES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
PIECES = st.sampled_from(["a", "b", "c", "d", "..", ".", "", "outside", "a/b"])
PATHS = st.lists(PIECES, max_size=7).map("/".join)
TEXTS = PATHS.filter(bool) | PATHS.map("/{}".format)
TREES = st.dictionaries(
    PLACES,
    st.just(("folder", "")) | st.tuples(st.just("file"), st.text("xy", max_size=3))
    | st.tuples(st.just("link"), TEXTS),
    max_size=9,
)  # fmt: skip
RESOLVERS = (resolve.by_kernel, resolve.by_walking)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a container's `/` needs chroot")


def plant(root: Path, tree: dict[str, tuple[str, str]]) -> None:
    """Lay a tree out, as far as its parts do not contradict each other."""
    root.mkdir()
    for place in sorted(tree):
        path, (kind, text) = root / place, tree[place]
        above = [
            root.joinpath(*place.split("/")[:depth]) for depth in range(1, place.count("/") + 1)
        ]
        if any(folder.is_symlink() or folder.is_file() for folder in above):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "folder":
            path.mkdir(exist_ok=True)
        elif kind == "file":
            path.write_text(text)
        else:
            path.symlink_to(text)


@contextmanager
def planted(tree: dict[str, tuple[str, str]], *names: str) -> Iterator[list[Path]]:
    """The tree under each of the names, with a folder `outside` and a file `top` beside them."""
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "outside").mkdir()
        (folder / "outside/a").write_text("of the host")
        for name in names:
            plant(folder / name, tree)
        yield [folder / name for name in names]
    finally:
        shutil.rmtree(folder)


def in_a_chroot(root: Path, paths: list[str]) -> list[str]:
    """Where the kernel takes each path for a process whose `/` is this root."""
    hearing, talking = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chroot(root)
            os.chdir("/")
            said = [_outcome(os.open, f"/{path}", os.O_PATH) for path in paths]
            os.write(talking, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(talking)
    with os.fdopen(hearing, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return list(json.loads(content))


def _outcome(find: Callable[..., int], *arguments: object) -> str:
    """The identity of what was found, or the name of the error."""
    try:
        descriptor = find(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    status = os.fstat(descriptor)
    os.close(descriptor)
    return f"{status.st_dev}:{status.st_ino}"


@needs_root
class TestRoot:
    @settings(max_examples=100)
    @given(TREES, st.lists(PATHS, min_size=1, max_size=8))
    @example({"a": ("file", "")}, ["a/..", "a/.", "a/", "a/../a", "a"])
    @example({"a": ("file", ""), "b": ("link", "a/"), "c": ("link", "a/..")}, ["b", "c", "b/.."])
    def test_a_path_leads_where_it_leads_in_the_container(
        self, tree: dict[str, tuple[str, str]], paths: list[str]
    ) -> None:
        with planted(tree, "root") as (root,):
            expected = in_a_chroot(root, paths)
            descriptor = os.open(root, os.O_PATH)
            try:
                for resolver in RESOLVERS:
                    for stay in (False, True):
                        found = [_outcome(resolver, descriptor, path, stay) for path in paths]
                        assert found == expected, resolver.__name__
            finally:
                os.close(descriptor)

    @settings(max_examples=100)
    @given(TREES, st.lists(st.tuples(st.sampled_from("plrsn"), PATHS), min_size=1, max_size=8))
    def test_both_back_ends_make_the_same_of_a_tree(
        self, tree: dict[str, tuple[str, str]], acts: list[tuple[str, str]]
    ) -> None:
        with planted(tree, "one", "other") as roots:
            outside = snapshot(roots[0].parent / "outside")
            told = []
            for root, resolver in zip(roots, RESOLVERS):  # noqa: B905 - Python 3.9
                files = RootFs(os.open(root, os.O_PATH), resolver)
                told.append([act(files, kind, path) for kind, path in acts])
                os.close(files.descriptor)
            assert told[0] == told[1]
            assert snapshot(roots[0]) == snapshot(roots[1])
            assert snapshot(roots[0].parent / "outside") == outside
            assert sorted(os.listdir(roots[0].parent)) == ["one", "other", "outside"]

    @settings(max_examples=100)
    @given(TREES, PATHS, st.binary(max_size=8))
    def test_what_was_put_is_read_and_putting_it_again_is_nothing(
        self, tree: dict[str, tuple[str, str]], path: str, content: bytes
    ) -> None:
        with planted(tree, "root") as (root,):
            files = RootFs(os.open(root, os.O_PATH))
            try:
                assume(act(files, "p", path) is True)
                # A path may lead through the very link that was replaced: `a` -> `/`, and `a/a`.
                assume(files.is_directory(path.rpartition("/")[0]))
                files.put(path, content)
                assert files.read(path, 8) == content
                before = snapshot(root)
                assert files.put(path, content) is False
                assert snapshot(root) == before
                assert files.remove(path) is True
                assert files.remove(path) is False
                assert files.status(path) is None
            finally:
                os.close(files.descriptor)


def act(files: RootFs, kind: str, path: str) -> object:
    """Do one thing to the files; what came of it."""
    try:
        if kind == "p":
            return files.put(path, b"put")
        if kind == "l":
            return files.link(path, "../outside/a")
        if kind == "r":
            return files.remove(path)
        if kind == "n":
            return files.names(path)
        found = files.status(path)
        return found and stat.S_IFMT(found.st_mode)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def snapshot(folder: Path) -> dict[str, tuple[str, str]]:
    """What a tree holds: kind and mode of each name, and what it says."""
    known = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        says = ""
        if stat.S_ISLNK(mode):
            says = os.readlink(path)
        elif stat.S_ISREG(mode):
            says = path.read_bytes().hex()
        known[str(path.relative_to(folder))] = (stat.filemode(mode), says)
    return known
