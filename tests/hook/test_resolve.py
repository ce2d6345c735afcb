# SPDX-License-Identifier: Apache-2.0
"""Both resolvers give the same results, and no path leads out of the root."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_base import syscalls
from cdi_base.errors import HookError
from cdi_base.rootfs import resolve, rootfs
from cdi_base.rootfs.rootfs import RootFs

if TYPE_CHECKING:
    from cdi_base.rootfs.resolve import Resolver

RESOLVERS: list[Resolver] = [resolve.by_kernel, resolve.by_walking]


def planted(folder: Path) -> Path:
    """A root with every kind of link, and the files outside that the links must not reach."""
    (folder / "outside").mkdir()
    (folder / "outside/secret").write_text("outside")
    root = folder / "root"
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/file").write_text("inside")
    (root / "top").write_text("top")
    links = {
        "abs": "/a/b",
        "rel": "a/b",
        "up": "../../../../../../../../outside",
        "a/up": "../../outside/secret",
        "a/b/back": "../../a/file",
        "absolute-outside": str(folder / "outside/secret"),
        "loop": "loop",
        "chain0": "chain1/file",
        "chain1": "/a",
        "dangling": "nowhere",
        "slash": "/",
        "dots": "/../../../top",
        "a/b/c/deep": "../../../../../../top",
        "trailing": "a/b/",
        "to-top": "top",
        "with-slash": "top/",
        "a/b/absolute": "/a/file",
    }
    for name, text in links.items():
        (root / name).symlink_to(text)
    for number in range(45):
        (root / f"long{number}").symlink_to(f"long{number + 1}")
    (root / "long45").write_text("end")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return planted(tmp_path)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of all tests that do not change it."""
    return planted(tmp_path_factory.mktemp("still"))


@pytest.fixture(params=RESOLVERS, ids=lambda resolver: resolver.__name__)
def found(request: pytest.FixtureRequest, still: Path) -> Iterator[Callable[..., str]]:
    """Resolve a path; return the result as a path from the root, or the name of the error."""
    root = os.open(still, os.O_PATH | os.O_DIRECTORY)

    def find(path: str, stay: bool = False, patience: int = 9) -> str:
        try:
            descriptor = request.param(root, path, stay)
        except OSError as error:
            # Linux 6.18 finds 35 links too many now and then, while mounts change elsewhere.
            if error.errno == errno.ELOOP and patience:
                return find(path, stay, patience - 1)
            return errno.errorcode[error.errno or 0]
        try:
            return "/" + os.readlink(f"/proc/self/fd/{descriptor}")[len(str(still)) :].strip("/")
        finally:
            os.close(descriptor)

    yield find
    os.close(root)


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("", "/"),
        ("/", "/"),
        (".", "/"),
        ("a/b/c", "/a/b/c"),
        ("/a//b/./c", "/a/b/c"),
        ("a/../a/file", "/a/file"),
        ("..", "/"),
        ("../../../../top", "/top"),
        ("/../top", "/top"),
        ("a/b/../../../top", "/top"),
        ("abs", "/a/b"),
        ("abs/c", "/a/b/c"),
        ("rel/c", "/a/b/c"),
        ("abs/../file", "/a/file"),
        ("a/b/back", "/a/file"),
        ("chain0", "/a/file"),
        ("slash", "/"),
        ("slash/a", "/a"),
        ("dots", "/top"),
        ("a/./../top", "/top"),
        ("a/./b/.././file", "/a/file"),
        ("a/b/c/deep", "/top"),
        ("trailing/c", "/a/b/c"),
        ("a/b/absolute", "/a/file"),
        ("long10", "/long45"),
        # Forty links, and one more.
        ("long5", "/long45"),
        ("long4", "ELOOP"),
        # 4095 bytes, and one more: a path ends with a NUL.
        ("/" * 4092 + "top", "/top"),
        ("/" * 4093 + "top", "ENAMETOOLONG"),
        ("a/", "/a"),
        ("top/", "ENOTDIR"),
        ("top/.", "ENOTDIR"),
        ("top/../top", "ENOTDIR"),
        ("to-top/", "ENOTDIR"),
        ("with-slash", "ENOTDIR"),
        ("up", "ENOENT"),
        ("up/secret", "ENOENT"),
        ("a/up", "ENOENT"),
        ("absolute-outside", "ENOENT"),
        ("dangling", "ENOENT"),
        ("missing", "ENOENT"),
        ("a/missing/x", "ENOENT"),
        ("top/x", "ENOTDIR"),
        ("loop", "ELOOP"),
        ("long0", "ELOOP"),
        ("x" * 300, "ENAMETOOLONG"),
        ("a/" * 2048 + "x", "ENAMETOOLONG"),
    ],
)
@pytest.mark.parametrize("stay", [False, True])
def test_where_a_path_leads(
    found: Callable[..., str], path: str, leads_to: str, stay: bool
) -> None:
    assert found(path, stay) == leads_to


def test_walker_stops_after_256_components(tree: Path) -> None:
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    os.close(resolve.by_walking(root, "a/../" * 127 + "a/b", False))
    with pytest.raises(OSError, match="File name too long"):
        resolve.by_walking(root, "a/../" * 128 + "a", False)
    os.close(root)


@pytest.fixture(params=RESOLVERS, ids=lambda resolver: resolver.__name__)
def proc(request: pytest.FixtureRequest) -> Iterator[RootFs]:
    """A procfs as the root: it is full of magic links."""
    files = RootFs(os.open("/proc", os.O_PATH | os.O_DIRECTORY), request.param)
    yield files
    os.close(files.descriptor)


@pytest.mark.parametrize("name", ["root", "cwd", "exe", "fd/0", "root/etc/passwd"])
def test_a_magic_link_leads_nowhere(proc: RootFs, name: str) -> None:
    """A15: the kernel refuses magic links, the walker reads their text like that of other links."""
    assert proc.status("self") is not None
    status = proc.status(f"self/{name}")
    here = os.stat("/proc")
    assert status is None or (status.st_dev, status.st_ino) == (here.st_dev, here.st_ino)


def test_the_kernel_says_that_it_is_a_magic_link() -> None:
    """Without RESOLVE_NO_MAGICLINKS the error would be that of a volume."""
    root = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(OSError) as caught:
        resolve.by_kernel(root, "self/root", False)
    assert caught.value.errno == errno.ELOOP
    os.close(root)


@pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda resolver: resolver.__name__)
@pytest.mark.parametrize("path", ["proc", "/proc/", "proc/self", "proc/../etc", "etc/../proc"])
def test_stay_refuses_a_path_into_another_mount(
    resolver: Callable[[int, str, bool], int], path: str
) -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    os.close(resolver(root, path, False))
    with pytest.raises(OSError) as caught:
        resolver(root, path, True)
    assert caught.value.errno == errno.EXDEV
    os.close(resolver(root, "etc", True))
    os.close(root)


def test_other_errors_do_not_select_the_walker(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    monkeypatch.setattr(syscalls, "openat2", full)
    with pytest.raises(OSError, match="Too many open files"):
        resolve.choose(root)
    os.close(root)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EINTR])
def test_a_path_that_was_uncertain_once_is_found(
    tree: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    calls = []

    def once(*words: object) -> int:
        calls.append(words)
        if len(calls) == 1:
            raise OSError(number, os.strerror(number))
        return 0

    monkeypatch.setattr(syscalls, "openat2", once)
    assert resolve.by_kernel(7, "a", False) == 0
    assert len(calls) == 2


def test_path_with_a_nul_is_refused(tree: Path) -> None:
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    for resolver in RESOLVERS:
        with pytest.raises((OSError, ValueError)):
            resolver(root, "a/b\0/../../outside", False)
    os.close(root)


def test_kernels_resolver_is_used_if_it_exists(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    assert resolve.choose(root) is resolve.by_kernel
    for number in (errno.ENOSYS, errno.EPERM, errno.EINVAL):

        def refused(*_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(syscalls, "openat2", refused)
        assert resolve.choose(root) is resolve.by_walking
    os.close(root)


@pytest.mark.parametrize("stay", [False, True])
def test_a_busy_machine_is_asked_again_and_then_walked(
    monkeypatch: pytest.MonkeyPatch, stay: bool
) -> None:
    """Continuous renames elsewhere on the machine do not prevent a container from starting."""
    calls = []

    def again(*_: object) -> int:
        calls.append(1)
        raise OSError(errno.EAGAIN, "again")

    monkeypatch.setattr(syscalls, "openat2", again)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    if stay:
        with pytest.raises(OSError, match="cross-device"):
            resolve.by_kernel(root, "proc", stay)
    else:
        descriptor = resolve.by_kernel(root, "proc", stay)
        assert os.path.samestat(os.fstat(descriptor), os.stat("/proc"))
        os.close(descriptor)
    os.close(root)
    assert len(calls) == resolve.MAX_TRIES == 32


def test_no_descriptor_is_left_open(tree: Path) -> None:
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    before = os.listdir("/proc/self/fd")
    for path in ("a/b/c", "chain0", "slash"):
        os.close(resolve.by_walking(root, path, True))
    for path in ("loop", "up/secret", "missing", "top/x"):
        with pytest.raises(OSError):
            resolve.by_walking(root, path, True)
    assert os.listdir("/proc/self/fd") == before
    os.close(root)


@pytest.mark.parametrize("spelling", ["/", "//", "/.", "/../", "link"])
def test_hosts_root_is_refused_by_its_identity(tmp_path: Path, spelling: str) -> None:
    (tmp_path / "link").symlink_to("/")
    path = tmp_path / "link" if spelling == "link" else spelling
    with pytest.raises(HookError, match="host's root"):
        RootFs(os.open(path, os.O_PATH | os.O_DIRECTORY))


def opened(root: Path, resolver: Resolver) -> RootFs:
    return RootFs(os.open(root, os.O_PATH | os.O_DIRECTORY), resolver)


@pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda resolver: resolver.__name__)
class TestRootFs:
    def test_a_link_at_its_place_is_replaced_not_followed(
        self, tree: Path, resolver: Resolver
    ) -> None:
        root = opened(tree, resolver)
        (tree / "etc").mkdir()
        (tree / "etc/cache").symlink_to(tree.parent / "outside/secret")
        # Even if what it leads to says the same.
        assert root.put("/etc/cache", b"outside")
        assert not (tree / "etc/cache").is_symlink()
        assert (tree.parent / "outside/secret").read_text() == "outside"

    def test_a_hard_link_keeps_its_other_name(self, tree: Path, resolver: Resolver) -> None:
        os.link(tree.parent / "outside/secret", tree / "hard")
        opened(tree, resolver).put("/hard", b"new")
        assert (tree.parent / "outside/secret").read_text() == "outside"

    def test_nothing_is_created_through_a_dangling_link(
        self, tree: Path, resolver: Resolver
    ) -> None:
        with pytest.raises(NotADirectoryError):
            opened(tree, resolver).put("/dangling/file", b"x")
        with pytest.raises(NotADirectoryError):
            opened(tree, resolver).put("/up/file", b"x")
        assert not (tree / "nowhere").exists()
        assert os.listdir(tree.parent / "outside") == ["secret"]

    def test_a_directory_is_not_replaced(self, tree: Path, resolver: Resolver) -> None:
        root = opened(tree, resolver)
        with pytest.raises(IsADirectoryError):
            root.put("/a/b", b"x")
        with pytest.raises(IsADirectoryError):
            root.link("/a/b", "y")
        assert not list(tree.rglob(".cdi-gen-*"))

    def test_special_files_are_never_opened(self, tree: Path, resolver: Resolver) -> None:
        root = opened(tree, resolver)
        os.mkfifo(tree / "pipe")
        os.mknod(tree / "device", 0o020666, os.makedev(10, 130))
        (tree / "to-pipe").symlink_to("pipe")
        for name in ("pipe", "device", "to-pipe", "a"):
            with pytest.raises(OSError, match="not a regular file"):
                root.read(name, 100)
        with pytest.raises(OSError, match="larger than 2 bytes"):
            root.read("top", 2)
        assert root.read("top", 3) == b"top"

    def test_names_are_sorted_and_limited(
        self, tree: Path, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = opened(tree, resolver)
        assert root.names("/abs") == ["absolute", "back", "c"]
        monkeypatch.setattr(rootfs, "MAX_NAMES", 5)
        assert len(root.names("/")) == 5

    def test_remove(self, tree: Path, resolver: Resolver) -> None:
        root = opened(tree, resolver)
        assert not root.remove("/not/there")
        assert not root.remove("/missing")
        assert not (tree / "not").exists()
        assert root.remove("/absolute-outside")
        assert root.remove("/top")
        assert not (tree / "top").exists()
