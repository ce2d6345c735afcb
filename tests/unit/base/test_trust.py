# SPDX-License-Identifier: Apache-2.0
"""Each rule of `cdi_base.trust`, which the hooks and the library share."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from cdi_base import trust

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")

USER = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory seen as `/`, in which only root can write."""
    root = tmp_path / "root"
    for directory in (root, root / "usr", root / "usr/bin"):
        directory.mkdir(mode=0o755)
    (root / "usr/bin/tool").write_text("tool")
    (root / "usr/bin/tool").chmod(0o755)
    (root / "bin").symlink_to("usr/bin")
    (root / "link").symlink_to("/bin/tool")
    return root


def fault(root: Path, path: str = "/usr/bin/tool", **options: Any) -> str | None:
    return trust.fault(path, seen_from=str(root), **options)


@pytest.mark.parametrize(
    "path", ["/usr/bin/tool", "/bin/tool", "/link", "//usr/./bin/../bin/tool", "/", "/bin/.."]
)
def test_a_path_that_only_root_can_change(root: Path, path: str) -> None:
    assert fault(root, path) is None


@pytest.mark.parametrize("path", ["/usr/bin/tool", "/bin/tool", "/link"])
@pytest.mark.parametrize("name", [".", "usr", "usr/bin", "usr/bin/tool"])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_component_that_others_can_write_to(root: Path, path: str, name: str, mode: int) -> None:
    """Wherever it is on the path, and for the group root too."""
    (root / name).chmod(mode)
    place = "/" if name == "." else f"/{name}"
    assert fault(root, path) == f"{place} can be written to by others (mode {mode:04o})"


@pytest.mark.parametrize("name", [".", "usr", "usr/bin", "usr/bin/tool", "bin", "link"])
def test_a_component_that_belongs_to_a_user(root: Path, name: str) -> None:
    os.chown(root / name, USER, 0, follow_symlinks=False)
    place = "/" if name == "." else f"/{name}"
    assert fault(root, "/link") == f"{place} belongs to user {USER}"
    assert trust.fault("/link", seen_from=str(root), owners={0, USER}) is None


class TestStickyDirectory:
    """Others can create files in it, and cannot replace those of root."""

    @pytest.fixture(autouse=True)
    def sticky(self, root: Path) -> None:
        (root / "usr/bin").chmod(0o1777)

    def test_on_the_way_to_a_file_of_root(self, root: Path) -> None:
        assert fault(root) is None
        assert fault(root, "/link") is None

    def test_at_the_end(self, root: Path) -> None:
        assert fault(root, "/usr/bin") == "/usr/bin can be written to by others (mode 1777)"

    def test_of_another_user(self, root: Path) -> None:
        os.chown(root / "usr/bin", USER, 0)
        assert fault(root) == f"/usr/bin belongs to user {USER}"

    def test_before_a_missing_component_that_others_could_create(self, root: Path) -> None:
        assert "/usr/bin can be" in (fault(root, "/usr/bin/new/x", may_be_missing=True) or "")
        assert fault(root, "/usr/new/x", may_be_missing=True) is None

    def test_before_a_file_that_others_may_own_and_therefore_replace(self, root: Path) -> None:
        assert "/usr/bin can be" in (fault(root, end_may_be_untrusted=True) or "")


class TestMissing:
    def test_is_an_error(self, root: Path) -> None:
        for path in ("/usr/bin/none", "/none/x"):
            with pytest.raises(FileNotFoundError):
                fault(root, path)
            with pytest.raises(FileNotFoundError):
                trust.resolved(path, seen_from=str(root))

    def test_is_no_fault_where_the_caller_creates_it(self, root: Path) -> None:
        assert fault(root, "/usr/bin/none/x", may_be_missing=True) is None

    def test_does_not_hide_a_fault_above(self, root: Path) -> None:
        (root / "usr").chmod(0o777)
        assert "/usr can be" in (fault(root, "/usr/none", may_be_missing=True) or "")

    def test_a_dangling_link(self, root: Path) -> None:
        (root / "dangling").symlink_to("none")
        with pytest.raises(FileNotFoundError):
            fault(root, "/dangling")

    def test_a_file_in_the_place_of_a_directory(self, root: Path) -> None:
        with pytest.raises(NotADirectoryError):
            fault(root, "/usr/bin/tool/x", may_be_missing=True)


def test_the_file_at_the_end_may_be_untrusted(root: Path) -> None:
    os.chown(root / "usr/bin/tool", USER, USER)
    (root / "usr/bin/tool").chmod(0o666)
    assert fault(root, "/link", end_may_be_untrusted=True) is None
    os.chown(root / "link", USER, USER, follow_symlinks=False)
    assert fault(root, "/link", end_may_be_untrusted=True) == f"/link belongs to user {USER}"


def test_links_in_a_circle_end(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    for ask in (trust.fault, trust.resolved):
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.ELOOP))):
            ask("/a", seen_from=str(root))


def test_a_link_stays_inside_the_root_that_is_looked_at(root: Path) -> None:
    (root / "up").symlink_to("../../../../usr/bin/tool")
    for path in ("/up", "/link", "/bin/tool", "/../../usr/bin/tool"):
        assert trust.resolved(path, seen_from=str(root)) == "/usr/bin/tool"


class TestUserNamespace:
    """It shows the machine's root as the overflow user."""

    def test_the_overflow_user_is_root_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert not trust.is_trusted_owner(65534)
        assert trust.machine_root() == {0}
        monkeypatch.setattr(trust, "in_first_user_namespace", lambda: False)
        assert trust.is_trusted_owner(65534)
        assert not trust.is_trusted_owner(USER)
        assert trust.machine_root() == {0, 65534}

    def test_a_program_that_root_runs_is_no_overflow_users(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trust, "in_first_user_namespace", lambda: False)
        os.chown(root / "usr/bin/tool", 65534, 0)
        assert fault(root) == "/usr/bin/tool belongs to user 65534"
        assert (
            trust.fault("/usr/bin/tool", seen_from=str(root), owners=trust.machine_root()) is None
        )


def test_root_and_the_caller_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: USER)
    assert trust.machine_root_or_caller() == {0, USER}
    assert [user for user in (0, 1, USER, 65534) if trust.is_trusted_owner(user)] == [0, USER]


class TestOpenFile:
    """The same rule for one file that is open."""

    def test_the_callers_own_file(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.chown(root / "usr/bin/tool", USER, USER)
        with pytest.raises(PermissionError, match=f"belongs to user {USER}"):
            trust.read(str(root / "usr/bin/tool"), 10)
        monkeypatch.setattr(os, "geteuid", lambda: USER)
        assert trust.read(str(root / "usr/bin/tool"), 10) == b"tool"

    @pytest.mark.parametrize("mode", [0o664, 0o646, 0o1666])
    def test_one_that_others_can_write_to(self, root: Path, mode: int) -> None:
        (root / "usr/bin/tool").chmod(mode)
        with pytest.raises(PermissionError, match=f"written to by others .mode {mode:04o}"):
            trust.read(str(root / "usr/bin/tool"), 10)

    def test_a_link_is_followed_only_on_request(self, root: Path) -> None:
        (root / "near").symlink_to("usr/bin/tool")
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.ELOOP))):
            trust.read(str(root / "near"), 10)
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.ELOOP))):
            trust.open_file(str(root / "near"))
        assert trust.read(str(root / "near"), 10, follow=True) == b"tool"

    def test_below_an_open_directory(self, root: Path) -> None:
        directory = trust.open_directory(str(root / "usr"))
        assert not os.get_inheritable(directory)
        before = os.listdir("/proc/self/fd")
        assert trust.read("bin/tool", 10, directory=directory) == b"tool"
        assert os.listdir("/proc/self/fd") == before
        os.close(directory)
        with pytest.raises(NotADirectoryError):
            trust.open_directory(str(root / "usr/bin/tool"))

    @pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "device"])
    def test_no_regular_file(self, tmp_path: Path, kind: str) -> None:
        place = tmp_path / "x"
        with socket.socket(socket.AF_UNIX) as listening:
            if kind == "fifo":
                os.mkfifo(place)
            elif kind == "socket":
                listening.bind(str(place))
            elif kind == "directory":
                place.mkdir()
            else:
                place = Path("/dev/null")
            with pytest.raises(OSError, match=r"not a regular file|Is a directory|No such device"):
                trust.read(str(place), 10)

    def test_a_directory_that_others_can_write_to_is_not_opened(self, root: Path) -> None:
        os.close(trust.open_directory(str(root)))
        before = os.listdir("/proc/self/fd")
        for mode in (0o775, 0o777, 0o1777):
            root.chmod(mode)
            with pytest.raises(PermissionError, match="written to by others"):
                trust.open_directory(str(root))
        assert os.listdir("/proc/self/fd") == before


def test_a_link_of_procfs_that_leads_elsewhere_than_its_text(tmp_path: Path) -> None:
    """The kernel follows /proc/PID/root, cwd, exe and fd/N to a file, whatever their text."""
    path = tmp_path / "x"
    path.write_text("of another user")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        path.unlink()
        (tmp_path / "x (deleted)").write_text("of root")
        for judge in (trust.fault, trust.resolved):
            with pytest.raises(OSError, match="leads elsewhere") as caught:
                judge(f"/proc/{os.getpid()}/fd/{descriptor}")
            assert caught.value.errno == errno.ELOOP
    finally:
        os.close(descriptor)
