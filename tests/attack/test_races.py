# SPDX-License-Identifier: Apache-2.0
"""An image that changes while the hook looks at it (A17, A18; CVE-2025-23359, CVE-2026-24260).

`racer.c` exchanges names of the image in a loop; the hook's own way to the files, and the whole
hook, must never leave the root meanwhile. A hook that looks first and opens then loses the same races.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cdi_base.rootfs import resolve
from cdi_base.rootfs.rootfs import RootFs
from tests.attack.racing import SOURCE, Pair, exchanging
from tests.hook.conftest import Container, fingerprint

if TYPE_CHECKING:
    from cdi_base.rootfs.resolve import Resolver

SECRET = b"of the host\n"

EXPECTED = {errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.EISDIR, errno.EEXIST, errno.ESTALE}
"""What a victim may say of a name that was something else a moment ago. EAGAIN is not there: a
`..` that never becomes certain would stop containers."""

TRIES = 100_000


class Battle(NamedTuple):
    """Which names are exchanged, as (folder, one, other), and what the victim asks for."""

    path: str
    pairs: tuple[tuple[str, str, str], ...]
    leads_out: str = "absolute"
    only_read: bool = False


BATTLES = {
    "parent": Battle("/opt/odd/x", (("opt", "odd", "away"),)),
    "parent that climbs": Battle("/opt/odd/x", (("opt", "odd", "away"),), "climbing"),
    "parent by a magic link": Battle("/opt/odd/x", (("opt", "odd", "away"),), "magic"),
    "three levels": Battle(
        "/a/b/c/x", (("", "a", "away"), ("a", "b", "away"), ("a/b", "c", "away")), "climbing"
    ),
    "drop-in folder": Battle(
        "/etc/ld.so.conf.d/00-cdi-gen.conf", (("etc", "ld.so.conf.d", "away"),)
    ),
    "file, pipe and link": Battle("/etc/x", (("etc", "x", "pipe"), ("etc", "x", "away"))),
    "moved out": Battle("/a/b/c/../../../../../../../../../../../..", (), only_read=True),
}


def link_out(way: str, target: Path) -> str:
    return {
        "absolute": str(target),
        "climbing": "../" * 30 + str(target)[1:],
        "magic": f"/proc/self/root{target}",
    }[way]


class Field:
    """A container in which a battle is laid out."""

    def __init__(self, container: Container, battle: Battle) -> None:
        self.container, self.battle, self.path = container, battle, battle.path
        self.root = container.root
        (container.canary / "dir/x").write_bytes(SECRET)
        (container.canary / "dir/00-cdi-gen.conf").write_bytes(SECRET)
        (container.canary / "file").write_bytes(SECRET)
        self.pairs = [Pair(self.root / folder, one, other) for folder, one, other in battle.pairs]
        if battle.only_read:
            self._lay_out_what_is_moved()
        for folder, one, other in self.pairs:
            if other == "away" and battle.path != "/etc/x":
                (folder / one).mkdir(parents=True, exist_ok=True)
                target = container.canary / "dir"
                (folder / other).symlink_to(link_out(battle.leads_out, target))
        self.restock()
        container.before = fingerprint(container.canary)

    def _lay_out_what_is_moved(self) -> None:
        """`a/b/c` goes out of the root and comes back, while `..`s are taken from below it."""
        (self.root / "a/b/c").mkdir(parents=True)
        outside = self.container.bundle / "outside"
        (outside / "c").mkdir(parents=True)
        self.pairs = [Pair(self.container.bundle, "rootfs/a/b/c", "outside/c")]
        self.path += f"{self.container.canary}/file"

    def restock(self) -> None:
        """Each kind again that the victim has replaced."""
        if self.battle.path != "/etc/x":
            return
        etc = self.root / "etc"
        there = {name: _kind(etc / name) for name in ("x", "pipe", "away")}
        missing = [name for name, kind in there.items() if not kind]
        kinds = {stat.S_IFREG, stat.S_IFIFO, stat.S_IFLNK} - set(there.values())
        if kinds and not missing:
            missing = ["away"]
            (etc / "away").unlink(missing_ok=True)
        for name, kind in zip(missing, kinds, strict=False):
            # The attacker may have been faster.
            with suppress(FileExistsError):
                if kind == stat.S_IFIFO:
                    os.mkfifo(etc / name)
                elif kind == stat.S_IFLNK:
                    (etc / name).symlink_to(self.container.canary / "file")
                else:
                    (etc / name).write_bytes(b"inside")

    def escaped(self) -> bool:
        return fingerprint(self.container.canary) != self.container.before


def _kind(path: Path) -> int:
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return 0


class Naive:
    """What a hook must not be: it looks where a path leads, and then opens the path it was told."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def _checked(self, path: str) -> str:
        folder, name = os.path.split(self.root + path)
        real = os.path.realpath(folder)
        os.makedirs(real, exist_ok=True)
        if not (real + "/").startswith(self.root + "/"):
            raise FileNotFoundError(errno.ENOENT, "leads out of the root")
        return f"{folder}/{name}"

    def put(self, path: str, content: bytes) -> None:
        with open(self._checked(path), "wb", opener=_without_waiting) as file:
            file.write(content)

    def link(self, path: str, text: str) -> None:
        place = self._checked(path)
        if os.path.lexists(place):
            os.unlink(place)
        os.symlink(text, place)

    def read(self, path: str, limit: int) -> bytes:
        place = self._checked(path)
        if not stat.S_ISREG(os.lstat(place).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with open(place, "rb", opener=_without_waiting) as file:
            return file.read(limit)

    def remove(self, path: str) -> None:
        os.unlink(self._checked(path))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def strike(files: RootFs | Naive, field: Field, number: int) -> bytes | None:
    """One try of the victim's; gives what it read."""
    act = 2 if field.battle.only_read else number % 4
    if act == 0:
        files.put(field.path, b"%d" % number)
    elif act == 1:
        files.link(field.path, f"{number}")
    elif act == 2:
        return files.read(field.path, 4096)
    else:
        files.remove(field.path)
    field.restock()
    return None


@pytest.fixture
def racer(compiled: Callable[..., Path]) -> Path:
    return compiled("racer", SOURCE.read_text(), "-O2", "-Wall", "-Werror")


@pytest.fixture
def field(request: pytest.FixtureRequest, tmp_path: Path) -> Field:
    tmp_path.chmod(0o755)
    return Field(Container(tmp_path), BATTLES[request.param])


def fight(field: Field, racer: Path, resolver: Resolver, tries: int, seconds: float) -> str:
    """Let `RootFs` be raced against; the verdict is the caller's, the numbers are returned."""
    files = RootFs(os.open(field.root, os.O_PATH | os.O_DIRECTORY), resolver)
    said: Counter[str] = Counter()
    before = os.listdir("/proc/self/fd")
    until = time.monotonic() + seconds
    number = 0
    with exchanging(racer, field.pairs) as exchanges:
        while number < tries and time.monotonic() < until:
            number += 1
            try:
                content = strike(files, field, number)
            except OSError as error:
                if error.errno not in EXPECTED:
                    raise
                said[errno.errorcode[error.errno]] += 1
            else:
                said["done"] += 1
                assert content != SECRET
    assert os.listdir("/proc/self/fd") == before
    os.close(files.descriptor)
    assert exchanges.count > number / 100
    took = seconds - until + time.monotonic()
    return f"{number} tries in {took:.0f} s, {exchanges.count} exchanges, {dict(said)}"


RESOLVERS = pytest.mark.parametrize(
    "resolver", [resolve.by_kernel, resolve.by_walking], ids=lambda resolver: resolver.__name__
)
EVERY_BATTLE = pytest.mark.parametrize("field", BATTLES, indirect=True)


@RESOLVERS
@EVERY_BATTLE
def test_nothing_leaves_the_root(field: Field, racer: Path, resolver: Resolver) -> None:
    print(fight(field, racer, resolver, TRIES, 1))
    assert not field.escaped()
    assert not list(field.container.bundle.rglob(".cdi-gen-*"))


@pytest.mark.nightly
@RESOLVERS
@EVERY_BATTLE
def test_nothing_leaves_the_root_in_100_000_tries(
    field: Field, racer: Path, resolver: Resolver
) -> None:
    print(fight(field, racer, resolver, TRIES, 60))
    assert not field.escaped()
    assert not list(field.container.bundle.rglob(".cdi-gen-*"))


@pytest.mark.parametrize("field", [name for name in BATTLES if name != "moved out"], indirect=True)
def test_a_naive_hook_is_hit(field: Field, racer: Path) -> None:
    """The races are real: who looks first and opens then is led out within a few tries."""
    files = Naive(field.root)
    number = 0
    read = None
    with exchanging(racer, field.pairs):
        while number < TRIES and read != SECRET and not (number % 50 == 0 and field.escaped()):
            number += 1
            try:
                read = strike(files, field, number)
            except OSError:
                continue
    print(f"hit in {number} tries")
    assert read == SECRET or field.escaped()


def test_a_walk_that_trusts_dot_dot_is_hit(tmp_path: Path, racer: Path) -> None:
    """Why the walker keeps the folders it came through instead of opening `..`."""
    field = Field(Container(tmp_path), BATTLES["moved out"])
    read = None
    number = 0
    with exchanging(racer, field.pairs):
        while number < TRIES and read != SECRET:
            number += 1
            try:
                read = _read_by_dot_dot(field.root, field.path)
            except OSError:
                continue
    print(f"hit in {number} tries")
    assert read == SECRET


def _read_by_dot_dot(root: Path, path: str) -> bytes:
    here = os.open(root, os.O_PATH)
    top = os.fstat(here).st_ino
    try:
        for name in path.strip("/").split("/"):
            if name == ".." and os.fstat(here).st_ino == top:
                continue
            above, here = here, os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
            os.close(above)
        descriptor = os.open(f"/proc/self/fd/{here}", os.O_RDONLY)
        try:
            return os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    finally:
        os.close(here)
