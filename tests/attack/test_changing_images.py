# SPDX-License-Identifier: Apache-2.0
"""The whole hook, in an image whose folders, files and libraries change places meanwhile (A17, A18)."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.racing import SOURCE, Pair, exchanging
from tests.hook.conftest import PYTHON, Container, fingerprint

Library = Callable[[Path, str], None]


class Image:
    """One that exchanges everything the whole hook looks at: folders, files, what it scans."""

    OPTIONS = (
        "create-container",
        "--link", "libin.so.1::/opt/odd/libin.so",
        "--link", "../lib/libin.so.1::/opt/odd/deep/libin.so",
        "--folder", "/opt/odd",
        "--folder", "/opt/lib",
    )  # fmt: skip

    def __init__(self, container: Container, library: Library) -> None:
        self.container = container
        root, canary = container.root, container.canary
        for folder in ("etc/ld.so.conf.d", "opt/odd/deep", "opt/lib"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for folder in ("opt/odd", "opt/lib"):
            library(root / folder / "libin.so.1", "libin.so.1")
        container.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
        container.write("etc/ld.so.conf.d/image.conf", "/opt/image\n")
        library(canary / "dir/libsecret.so.9", "libsecret.so.9")
        (canary / "dir/deep").mkdir()
        (root / "opt/away").symlink_to(canary / "dir")
        (root / "etc/away").symlink_to("../" * 30 + str(canary / "dir")[1:])
        (root / "opt/odd/away").symlink_to(canary / "dir/deep")
        (root / "opt/lib/away").symlink_to(canary / "dir/libsecret.so.9")
        for pipe in ("etc/pipe", "opt/lib/pipe"):
            os.mkfifo(root / pipe)
        self.pairs = [
            Pair(root / "opt", "odd", "away"),
            Pair(root / "opt/odd", "deep", "away"),
            Pair(root / "etc", "ld.so.conf.d", "away"),
            Pair(root / "etc", "ld.so.conf", "pipe"),
            Pair(root / "opt/lib", "libin.so.1", "pipe"),
            Pair(root / "opt/lib", "libin.so.1", "away"),
        ]
        container.before = fingerprint(canary)


def rounds(container: Container, library: Library, racer: Path, count: int) -> str:
    """Run the hook so often in an image that changes; it may fail, in so many words."""
    image = Image(container, library)
    ended: Counter[int] = Counter()
    with exchanging(racer, image.pairs) as exchanges:
        for _ in range(count):
            run = container.hook(*Image.OPTIONS)
            ended[run.status] += 1
            assert run.status in {0, 1}, run
            assert run.said.count("\n") <= 3, run
    container.assert_host_untouched()
    cache = container.root / "etc/ld.so.cache"
    assert b"libsecret" not in (cache.read_bytes() if cache.exists() else b"")
    assert not list(container.bundle.rglob(".cdi-gen-*"))
    return f"{count} runs, {exchanges.count} exchanges, by exit status: {dict(ended)}"


@pytest.fixture
def racer(compiled: Callable[..., Path]) -> Path:
    return compiled("racer", SOURCE.read_text(), "-O2", "-Wall", "-Werror")


@pytest.fixture(params=["openat2", "walker"])
def raced(request: pytest.FixtureRequest, tmp_path: Path) -> Container:
    tmp_path.chmod(0o755)
    container = Container(tmp_path)
    if request.param == "walker":
        container.altered(resolve__choose="lambda root: resolve.by_walking")
    return container


def test_the_whole_hook_in_a_changing_image(
    raced: Container, library: Library, racer: Path
) -> None:
    print(rounds(raced, library, racer, 10))


@pytest.mark.nightly
def test_300_hooks_in_a_changing_image(raced: Container, library: Library, racer: Path) -> None:
    print(rounds(raced, library, racer, 300))


NAIVE_HOOK = """\
import os, sys
root, target, link, text = sys.argv[1:]
for path in (link, '/etc/ld.so.conf.d/00-cdi-gen.conf'):
    folder = os.path.realpath(root + os.path.dirname(path))
    if not folder.startswith(root):
        sys.exit('leads out of the root')
    os.makedirs(folder, exist_ok=True)
    if path == link:
        os.path.lexists(root + path) or os.symlink(target, root + path)
    else:
        with open(root + path, 'w') as file:
            file.write(text)
"""


def test_a_whole_naive_hook_is_hit(tmp_path: Path, library: Library, racer: Path) -> None:
    container = Container(tmp_path)
    image = Image(container, library)
    hook = [PYTHON, "-IS", "-c", NAIVE_HOOK]
    hook += [str(container.root), "libin.so.1", "/opt/odd/libin.so", "/opt/odd\n"]
    runs = 0
    with exchanging(racer, image.pairs):
        while runs < 200 and fingerprint(container.canary) == container.before:
            runs += 1
            subprocess.run(hook, check=False, capture_output=True)
    print(f"hit in {runs} runs")
    assert fingerprint(container.canary) != container.before
