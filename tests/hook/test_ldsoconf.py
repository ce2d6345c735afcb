# SPDX-License-Identifier: Apache-2.0
"""Reading an image's ld.so.conf: the directories in it, and limits against hostile images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_base.errors import HookError
from cdi_base.rootfs.rootfs import RootFs
from cdi_hook.ldso import conf

Image = Callable[[dict[str, str]], Path]

OURS = "/etc/ld.so.conf.d/00-cdi-gen.conf"


def read(root: Path) -> list[str] | None:
    return conf.directories(RootFs(os.open(root, os.O_PATH | os.O_DIRECTORY)), excluded=OURS)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    def put(files: dict[str, str]) -> Path:
        for name, text in files.items():
            target = tmp_path / "root/etc" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return tmp_path / "root"

    (tmp_path / "root/etc").mkdir(parents=True)
    return put


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        ({}, None),
        ({"ld.so.conf": ""}, []),
        ({"ld.so.conf": "/a\n/b\n/a\n"}, ["/a", "/b"]),
        ({"ld.so.conf": "  /a  # why\n#/b\n\t/c d\t\r\n\n"}, ["/a", "/c d"]),
        ({"ld.so.conf": "relative\n/\0nul\nhwcap 1 x\n/z"}, ["/z"]),
        (
            {
                "ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n/last",
                "ld.so.conf.d/b.conf": "/b",
                "ld.so.conf.d/a.conf": "/a\n/last",
                "ld.so.conf.d/B.conf": "/B",
                "ld.so.conf.d/x.disabled": "/x",
                "ld.so.conf.d/.hidden.conf": "/h",
                "ld.so.conf.d/00-cdi-gen.conf": "/ours",
            },
            ["/B", "/a", "/last", "/b"],
        ),
        ({"ld.so.conf": "include more/*.conf /etc/x.conf\n", "more/1.conf": "/1", "x.conf": "/x"}, ["/1", "/x"]),
        ({"ld.so.conf": "include\tx.conf\nincludefoo\ninclude", "x.conf": "include y?.conf", "y1.conf": "/y"}, ["/y"]),
        ({"ld.so.conf": "/a\ninclude ld.so.conf\ninclude b.conf", "b.conf": "include b.conf\n/b\ninclude ld.so.conf"}, ["/a", "/b"]),
        ({"ld.so.conf": "include /missing/*.conf missing.conf\n/a"}, ["/a"]),
        ({"ld.so.conf": "include /*/*/*/*/*/*\n/a"}, ["/a"]),
    ],
)  # fmt: skip
def test_directories_are_listed_in_order(
    image: Image, files: dict[str, str], listed: list[str] | None
) -> None:
    assert read(image(files)) == listed


def test_an_include_stops_at_a_depth(image: Image) -> None:
    files = {f"{n}.conf": f"/d{n}\ninclude {n + 1}.conf" for n in range(20)}
    assert read(image({"ld.so.conf": "include 0.conf", **files})) == [f"/d{n}" for n in range(7)]


def test_an_include_leads_nowhere_but_into_the_image(image: Image, tmp_path: Path) -> None:
    (tmp_path / "outside.conf").write_text("/outside")
    root = image({"ld.so.conf": "include /../../outside.conf\ninclude link.conf\n/a"})
    (root / "etc/link.conf").symlink_to("../" * 30 + str(tmp_path / "outside.conf")[1:])
    assert read(root) == ["/a"]


@pytest.mark.parametrize("name", ["p.conf", "d.conf", "z.conf", "dir.conf"])
def test_an_include_that_is_not_a_regular_file_is_ignored(image: Image, name: str) -> None:
    root = image(
        {
            "ld.so.conf": f"include ld.so.conf.d/*.conf\ninclude {name}\n/a",
            "ld.so.conf.d/b.conf": "/b",
        }
    )
    for folder in ("etc", "etc/ld.so.conf.d"):
        os.mkfifo(root / folder / "p.conf")
        os.mknod(root / folder / "d.conf", 0o020666, os.makedev(1, 5))
        (root / folder / "z.conf").symlink_to("p.conf")
        (root / folder / "dir.conf").mkdir()
    assert read(root) == ["/b", "/a"]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link", "sparse"])
def test_ld_so_conf_itself_must_be_a_file(image: Image, kind: str) -> None:
    root = image({})
    conf = root / "etc/ld.so.conf"
    match kind:
        case "pipe":
            os.mkfifo(conf)
        case "device":
            os.mknod(conf, 0o020666, os.makedev(1, 5))
        case "folder":
            conf.mkdir()
        case "link":
            os.mkfifo(root / "etc/pipe")
            conf.symlink_to("/etc/pipe")
        case "sparse":
            conf.touch()
            os.truncate(conf, 6 << 30)
    with pytest.raises(OSError, match=r"not a regular file|larger than") as raised:
        read(root)
    assert raised.value.filename == "/etc/ld.so.conf"


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"ld.so.conf": "include many/*", **{f"many/{n:04}": "" for n in range(600)}}, "512 files"),
        (
            {"ld.so.conf": "include big/*", **{f"big/{n}": "#" * 65_000 for n in range(20)}},
            "1048576 bytes",
        ),
        ({"ld.so.conf": "".join(f"/{n}\n" for n in range(2000))}, "1024 directories"),
    ],
)
def test_too_much_is_refused(image: Image, files: dict[str, str], what: str) -> None:
    with pytest.raises(HookError, match=what):
        read(image(files))


@pytest.mark.parametrize(
    ("name", "pattern", "does"),
    [
        ("a.conf", "*.conf", True), ("a.conf", "*", True), ("a.conf", "a.conf", True), ("a.conf", "?.conf", True),
        ("ab.conf", "?.conf", False), ("a.conf.bak", "*.conf", False), (".a.conf", "*.conf", False),
        (".a.conf", ".*.conf", True), ("aXbXc", "a*b*c", True), ("aXbX", "a*b*c", False), ("a*", "a\\*", False),
        ("abc", "abc*", True), ("abc", "**c", True), ("", "*", True), ("é.conf", "?.conf", True),
    ],
)  # fmt: skip
def test_patterns(name: str, pattern: str, does: bool) -> None:
    assert conf._matches(name, pattern) is does
