# SPDX-License-Identifier: Apache-2.0
"""What RootFs reads, and what it refuses to read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_base.rootfs.rootfs import RootFs
from tests.hook.roots import failing, files, root

__all__ = ["files", "root"]


class TestReading:
    @pytest.mark.parametrize("path", ["/", "/etc/", "/etc/..", "/etc/.", ""])
    def test_a_path_without_a_name_is_invalid(self, files: RootFs, path: str) -> None:
        with pytest.raises(OSError, match="not a file name") as caught:
            files.put(path, b"")
        assert caught.value.errno == errno.EINVAL

    def test_a_directory_is_not_read(self, files: RootFs) -> None:
        with pytest.raises(OSError, match="not a regular file") as caught:
            files.read("/etc", 9)
        assert caught.value.errno == errno.EINVAL

    def test_has_finds_files_and_links_to_nowhere(self, files: RootFs, root: Path) -> None:
        """A link to nowhere is; what it leads to is not."""
        (root / "etc/dangling").symlink_to("/no/where")
        for path in ("/etc/file", "etc", "/etc/dangling"):
            assert files.has(path), path
        for path in ("/etc/no", "/no/file", "/etc/file/x", "/etc/dangling/x", "/etc/"):
            assert not files.has(path), path
        assert files.remove("/etc/file/x") is False
        assert files.remove("/etc/dangling") is True
        files._resolve = failing
        with pytest.raises(OSError, match="Input/output error"):
            files.has("/etc/file")
        assert files.own_links(files.descriptor) == {}

    def test_names_are_in_the_order_of_their_bytes(self, files: RootFs, root: Path) -> None:
        for name in (b"\xff", "\U0001f600".encode(), b"a", "é".encode()):
            (root / "etc" / os.fsdecode(name)).touch()
        assert [os.fsencode(name) for name in files.names("/etc")] == [
            b"a", b"file", "é".encode(), "\U0001f600".encode(), b"\xff"
        ]  # fmt: skip

    def test_below_a_directory_and_in_its_mount(self, files: RootFs) -> None:
        host = os.open("/", os.O_PATH)
        with pytest.raises(OSError, match="cross-device"):
            files.find_within(host, "proc")
        os.close(host)

    def test_errors_name_the_containers_path(self, files: RootFs, root: Path) -> None:
        os.mkfifo(root / "etc/pipe")
        (root / "etc/folder/within").mkdir(parents=True)
        acts: list[tuple[Callable[[], object], str]] = [
            (lambda: files.find("/no"), "/no"),
            (lambda: files.find_within(files.descriptor, "/no"), "/no"),
            (lambda: files.read("/etc/pipe", 9), "/etc/pipe"),
            (lambda: files.read("/etc/file", 2), "/etc/file"),
            (lambda: files.open_file("/etc/pipe"), "/etc/pipe"),
            (lambda: files.names("/etc/file"), "/etc/file"),
            (lambda: files.put("/etc/folder", b""), "/etc/folder"),
            (lambda: files.link("/etc/folder", "x"), "/etc/folder"),
            (lambda: files.remove("/etc/folder"), "/etc/folder"),
            (lambda: files.put("/etc/file/x", b""), "/etc/file/x"),
        ]
        for act, path in acts:
            with pytest.raises(OSError) as caught:
                act()
            assert caught.value.filename == path

    def test_a_file_of_just_the_limit(self, files: RootFs) -> None:
        assert files.read("/etc/file", 3) == b"old"
        with pytest.raises(OSError, match="larger than 2 bytes") as caught:
            files.read("/etc/file", 2)
        assert caught.value.errno == errno.EFBIG

    def test_a_file_that_grows_meanwhile(
        self, files: RootFs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[int] = []
        real = os.read

        def growing(descriptor: int, size: int) -> bytes:
            if not os.readlink(f"/proc/self/fd/{descriptor}").endswith("/etc/file"):
                return real(descriptor, size)
            sizes.append(size)
            return b"x" * min(size, 2)

        monkeypatch.setattr(os, "read", growing)
        with pytest.raises(OSError, match="larger than 3 bytes"):
            files.read("/etc/file", 3)
        assert sizes == [4, 2], "one byte more than the limit, and no more"

    def test_another_file_than_was_looked_at(
        self, files: RootFs, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What /proc leads to is compared with what was found."""
        real = os.open
        other = str(root.parent / "outside/secret")

        def led_astray(
            path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
        ) -> int:
            return real(
                other if path.startswith("/proc/self/fd/") else path, flags, mode, dir_fd=dir_fd
            )

        monkeypatch.setattr(os, "open", led_astray)
        with pytest.raises(OSError) as caught:
            files.read("/etc/file", 100)
        assert caught.value.errno == errno.ESTALE

    @pytest.mark.parametrize(
        ("number", "leads"),
        [(errno.ENOENT, False), (errno.ENOTDIR, False), (errno.ELOOP, False),
         (errno.ENAMETOOLONG, False), (errno.EIO, True), (errno.EXDEV, True), (errno.EACCES, True)],
    )  # fmt: skip
    def test_what_leads_nowhere(self, root: Path, number: int, leads: bool) -> None:
        def resolver(*_: object) -> int:
            raise OSError(number, os.strerror(number))

        descriptor = os.open(root, os.O_PATH)
        files = RootFs(descriptor, resolver)
        if leads:
            with pytest.raises(OSError):
                files.status("/x")
        else:
            assert files.status("/x") is None
            assert not files.is_directory("/x")
        os.close(descriptor)
