# SPDX-License-Identifier: Apache-2.0
"""A root is a chroot without the system call: nothing in it leads out of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdi_gen.host.roots import Root
from tests.property import strategies  # noqa: F401 - loads the profile

NAMES = ("a", "b", "c")
TEXTS = st.lists(st.sampled_from([*NAMES, "..", "."]), min_size=1, max_size=5).map("/".join)


@given(
    links=st.dictionaries(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.booleans(), TEXTS),
        max_size=5,
    ),
    path=TEXTS,
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_of_links_stays_inside(
    tmp_path: Path, links: dict[tuple[str, str], tuple[bool, str]], path: str
) -> None:
    """What is resolved has no link left in it, and is where a chroot would lead."""
    top = tmp_path / str(abs(hash((tuple(links.items()), path))))
    for first in NAMES:
        (top / first).mkdir(parents=True, exist_ok=True)
        for second in NAMES:
            place = top / first / second
            if place.is_symlink() or place.exists():
                continue
            if (first, second) in links:
                absolute, text = links[first, second]
                place.symlink_to(("/" if absolute else "") + text)
            else:
                place.mkdir()
    try:
        found = Root(seen_from=str(top)).resolve("/" + path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return
    real = Path(str(top) + found)
    assert not {"..", ".", ""} & set(found.split("/")[1:]) or found == "/"
    assert os.path.realpath(real) == str(real).rstrip("/")
    assert real.is_relative_to(top)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/etc/target", "/etc/target"),
        ("../../../../etc/target", "/etc/target"),
        ("target", "/etc/target"),
        ("./../etc/./target", "/etc/target"),
    ],
)
def test_a_link(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/target").touch()
    (tmp_path / "etc/link").symlink_to(text)
    root = Root("/", seen_from=str(tmp_path))
    assert root.resolve("/etc/link") == expected
    assert root.open_path(expected) == f"{tmp_path}{expected}"


def test_a_root_in_a_root(tmp_path: Path) -> None:
    """The operator's driver root, seen from a container that has the host at /host."""
    (tmp_path / "run/driver/usr/lib").mkdir(parents=True)
    (tmp_path / "run/driver/usr/lib/libx").symlink_to("/usr/lib/libx.so")
    (tmp_path / "run/driver/usr/lib/libx.so").touch()
    root = Root("/run/driver/", seen_from=f"{tmp_path}/")
    found = root.resolve("/usr/lib/libx")
    assert found == "/usr/lib/libx.so"
    assert root.host_path(found) == "/run/driver/usr/lib/libx.so"
    assert root.open_path(found) == f"{tmp_path}/run/driver/usr/lib/libx.so"
    assert root.inside("/run/driver/usr") == "/usr"
    assert root.inside("/run/driver2/usr") is None


def test_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 200_000)
    assert len(Root(seen_from=str(tmp_path)).read_bytes("/x", 100_001)) == 100_001
