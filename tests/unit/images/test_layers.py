# SPDX-License-Identifier: Apache-2.0
"""Layers as one tree: archives, directories of overlayfs and of fuse-overlayfs, and hostile ones."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zlib
from pathlib import Path

import pytest

from cdi_gen.images import compression, layers
from cdi_gen.images.archive import open_archive
from cdi_gen.images.blobs import LazySource
from cdi_gen.images.compression import GzipSource
from cdi_gen.images.errors import DamagedImageError, ImageError, TooLargeError
from cdi_gen.images.files import Files
from cdi_gen.images.folder import Folder
from cdi_gen.images.layers import Budget, TarLayer, TreeLayer
from cdi_gen.images.layout import open_rootfs
from cdi_gen.images.sources import FileSource
from tests.unit.images import layered
from tests.unit.images.layered import Member


def source(content: bytes) -> LazySource:
    """A source with this content."""

    def opened() -> FileSource:
        descriptor = os.memfd_create("test")
        os.write(descriptor, content)
        return FileSource(descriptor)

    return LazySource(opened)


def files_of(*contents: bytes, budget: int = 1000) -> Files:
    """The files of an image with these layers."""
    limit = Budget(budget)
    return Files([TarLayer(source(content), "layer", limit) for content in contents])


def one(*members: Member) -> Files:
    """The files of an image of one layer."""
    return files_of(layered.layer(members))


def test_archives_are_merged() -> None:
    layered.check_files(files_of(layered.layer(layered.LOWER), layered.layer(layered.UPPER)))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_each_form_of_tar(form: int) -> None:
    name = "/".join(["a" * 90] * 2) if form == tarfile.USTAR_FORMAT else "/".join(["ä" * 90] * 4)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"long"))
    assert files_of(out.getvalue()).read(f"/{name}", 10) == b"long"


def test_directory_with_the_marks_of_fuse_overlayfs(tmp_path: Path) -> None:
    unpack(tmp_path / "lower", layered.LOWER)
    unpack(tmp_path / "upper", layered.UPPER)
    folders = [Folder(str(tmp_path / name)) for name in ("lower", "upper")]
    files = Files([TreeLayer(folder, has_marks=True) for folder in folders])
    layered.check_files(files)
    files.close()


def unpack(root: Path, members: list[Member]) -> None:
    for name, value, kind in members:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == tarfile.DIRTYPE:
            path.mkdir(exist_ok=True)
        elif kind == tarfile.SYMTYPE:
            path.symlink_to(str(value))
        elif kind == tarfile.LNKTYPE:
            path.hardlink_to(root / str(value))
        else:
            assert isinstance(value, bytes)
            path.write_bytes(value)


class TestHostileArchives:
    @pytest.mark.parametrize("name", ["../../etc/shadow", "a/../../b", "/../x", "x/" * 200 + "x"])
    def test_name_that_leads_out_is_left_out(self, name: str) -> None:
        files = one((name, b"evil", tarfile.REGTYPE), ("etc/shadow", b"own", tarfile.REGTYPE))
        assert files.names("/") == ["etc"]
        assert files.read("/etc/shadow", 10) == b"own"

    def test_absolute_name_is_in_the_image(self) -> None:
        assert one(("/etc/x", b"x", tarfile.REGTYPE)).read("/etc/x", 10) == b"x"

    @pytest.mark.parametrize("target", ["/etc/hostname", "../../../../etc/hostname"])
    def test_link_does_not_lead_to_the_host(self, target: str) -> None:
        files = one(("link", target, tarfile.SYMTYPE), ("hard", target, tarfile.LNKTYPE))
        assert files.read("/link", 100) is None
        assert files.read("/hard", 100) is None

    @pytest.mark.parametrize(
        "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Z"]
    )
    def test_special_file_is_not_read(self, kind: bytes) -> None:
        files = one(("etc/passwd", None, kind))
        assert files.read("/etc/passwd", 10) in {None, b""}

    def test_links_that_lead_to_each_other_end(self) -> None:
        files = one(
            ("a", "b", tarfile.SYMTYPE), ("b", "a", tarfile.SYMTYPE),
            ("c", "d", tarfile.LNKTYPE), ("d", "c", tarfile.LNKTYPE),
            ("e", "e/e/e", tarfile.SYMTYPE),
        )  # fmt: skip
        assert [files.read(f"/{name}", 10) for name in "abcde"] == [None] * 5

    def test_as_many_links_as_the_kernel_follows(self) -> None:
        files = one(
            ("l0", b"end", tarfile.REGTYPE),
            *((f"l{n}", f"l{n - 1}", tarfile.SYMTYPE) for n in range(1, 50)),
        )
        assert files.read("/l40", 10) == b"end"
        assert files.read("/l41", 10) is None

    def test_links_with_many_components_end(self) -> None:
        files = one(*((f"l{n}", f"l{n + 1}/" * 30, tarfile.SYMTYPE) for n in range(20)))
        assert files.find("/l0") is None

    def test_too_many_files(self) -> None:
        members: list[Member] = [(f"f{n}", b"", tarfile.REGTYPE) for n in range(20)]
        with pytest.raises(TooLargeError, match="more than"):
            files_of(layered.layer(members), budget=10).names("/")

    @pytest.mark.parametrize("length", [100, 512, 700, 1500])
    def test_truncated_archive(self, length: int) -> None:
        content = layered.layer([("a", b"a" * 600, tarfile.REGTYPE), ("b", b"b", tarfile.REGTYPE)])
        with pytest.raises(DamagedImageError, match="not a complete tar archive"):
            files_of(content[:length]).names("/")

    def test_header_that_claims_a_gigabyte(self) -> None:
        entry = tarfile.TarInfo("x")
        entry.type = tarfile.XHDTYPE
        entry.size = 1 << 30
        with pytest.raises(TooLargeError, match="header"):
            files_of(entry.tobuf(format=tarfile.USTAR_FORMAT) + bytes(1 << 20)).names("/")

    def test_headers_within_headers(self) -> None:
        entry = tarfile.TarInfo("x")
        entry.type = tarfile.GNUTYPE_LONGNAME
        entry.size = 1
        block = entry.tobuf(format=tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
        with pytest.raises(DamagedImageError):
            files_of(block * 5000).names("/")

    def test_mark_of_the_root_itself(self) -> None:
        lower = layered.layer([("etc/x", b"x", tarfile.REGTYPE)])
        upper = layered.layer([(".wh.", b"", tarfile.REGTYPE), (".wh..", b"", tarfile.REGTYPE)])
        assert files_of(lower, upper).read("/etc/x", 10) == b"x"

    def test_content_of_another_member_is_not_read(self) -> None:
        """The size of a member ends its content, also at the end of the archive."""
        files = one(("a", b"a", tarfile.REGTYPE), ("b", b"secret", tarfile.REGTYPE))
        content = files.open("/a")
        assert content is not None
        assert content.read_at(0, 4096) == b"a"
        assert content.read_at(1, 10) == b""


class TestHostileDirectories:
    def test_link_out_of_the_directory(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        root = tmp_path / "root"
        (root / "etc").mkdir(parents=True)
        (root / "etc/absolute").symlink_to(tmp_path / "secret")
        (root / "etc/relative").symlink_to("../../secret")
        (root / "out").symlink_to(tmp_path)
        with open_rootfs(str(root)) as image:
            assert image.files is not None
            for path in ("/etc/absolute", "/etc/relative", "/out/secret"):
                assert image.files.read(path, 100) is None

    def test_pipe_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with open_rootfs(str(tmp_path)) as image:
            assert image.files is not None
            assert image.files.read("/pipe", 100) is None

    def test_file_larger_than_the_limit(self, tmp_path: Path) -> None:
        (tmp_path / "large").write_bytes(bytes(200))
        with open_rootfs(str(tmp_path)) as image:
            assert image.files is not None
            with pytest.raises(TooLargeError):
                image.files.read("/large", 100)


class TestCompression:
    CONTENT = b"".join(b"%d\n" % number for number in range(400_000))

    def opened(self, content: bytes) -> GzipSource:
        return GzipSource(source(content))

    def test_any_offset_can_be_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compression, "_CHECKPOINT", 1 << 19)
        opened = self.opened(gzip.compress(self.CONTENT))
        for offset in (0, 2_000_000, 100, 1_500_000, 1_499_990, len(self.CONTENT) - 5, 7):
            assert opened.read_at(offset, 50) == self.CONTENT[offset : offset + 50]
        assert opened.read_at(len(self.CONTENT) + 1, 10) == b""

    def test_several_members_and_padding(self) -> None:
        half = len(self.CONTENT) // 2
        parts = gzip.compress(self.CONTENT[:half]) + gzip.compress(self.CONTENT[half:])
        opened = self.opened(parts + bytes(1024))
        assert opened.read_at(0, len(self.CONTENT) + 10) == self.CONTENT
        assert opened.read_at(half - 10, 20) == self.CONTENT[half - 10 : half + 10]

    @pytest.mark.parametrize("cut", [20, 1000, -4])
    def test_truncated(self, cut: int) -> None:
        with pytest.raises(DamagedImageError, match="truncated"):
            self.opened(gzip.compress(self.CONTENT)[:cut]).read_at(0, len(self.CONTENT) + 1)

    def test_damaged(self) -> None:
        content = bytearray(gzip.compress(self.CONTENT))
        content[3000:3010] = b"\xff" * 10
        with pytest.raises(DamagedImageError, match="gzip"):
            self.opened(bytes(content)).read_at(0, len(self.CONTENT))

    def test_members_without_content(self) -> None:
        empty = gzip.compress(b"")
        assert self.opened(empty * 100 + gzip.compress(b"x")).read_at(0, 9) == b"x"
        with pytest.raises(DamagedImageError, match="members without content"):
            self.opened(empty * (compression.MAX_EMPTY_MEMBERS + 2)).read_at(0, 9)

    def test_bomb(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compression, "RATIO_FROM", 4 << 20)
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = packer.compress(bytes(32 << 20)) + packer.flush()
        with pytest.raises(TooLargeError, match="decompress to more than"):
            self.opened(bomb).read_at(16 << 20, 10)

    def test_other_compression_is_named(self) -> None:
        with pytest.raises(ImageError, match="xz is not supported"):
            compression.decompressed(source(b"\xfd7zXZ\x00rest"))


class TestArchivesOfImages:
    def manifest(self, tmp_path: Path, manifest: object, **files: bytes) -> str:
        members = [("manifest.json", json.dumps(manifest).encode(), tarfile.REGTYPE)]
        members += [(name, content, tarfile.REGTYPE) for name, content in files.items()]
        path = tmp_path / "image.tar"
        path.write_bytes(layered.layer(members))
        return str(path)

    @pytest.mark.parametrize(
        "manifest",
        [
            {}, [], [1], [{}], "x", [{"Config": 1, "Layers": []}],
            [{"Config": "../../../etc/passwd", "Layers": []}],
            [{"Config": "none.json", "Layers": ["none.tar"]}],
        ],
    )  # fmt: skip
    def test_manifest_of_another_form(self, tmp_path: Path, manifest: object) -> None:
        with pytest.raises(ImageError):
            open_archive(self.manifest(tmp_path, manifest))

    def test_layer_that_is_missing(self, tmp_path: Path) -> None:
        manifest = [{"Config": "c", "Layers": ["../../etc/passwd"]}]
        image = open_archive(self.manifest(tmp_path, manifest, c=b"{}"))
        assert image.files is not None
        with pytest.raises(DamagedImageError, match="has no layer"):
            image.files.names("/")

    def test_configuration_of_another_form_has_no_facts(self, tmp_path: Path) -> None:
        config = json.dumps({"config": {"Env": [1, "A=1", "A=2", "B"], "Labels": []}, "rootfs": 3})
        manifest = [{"Config": "c", "Layers": []}]
        image = open_archive(self.manifest(tmp_path, manifest, c=config.encode()))
        assert (image.environment, image.labels, image.architecture) == ({"A": "1"}, {}, None)

    def test_root_file_system_instead_of_an_image(self, tmp_path: Path) -> None:
        path = tmp_path / "rootfs.tar"
        path.write_bytes(layered.layer(layered.LOWER))
        with pytest.raises(ImageError, match="not an archive of images") as error:
            open_archive(str(path))
        assert "--rootfs" in (error.value.hint or "")

    def test_pipe_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ImageError, match="not a regular file"):
            open_archive(str(tmp_path / "pipe"))

    def test_several_images(self, tmp_path: Path) -> None:
        item = {"Config": "c", "Layers": []}
        both = [item | {"RepoTags": ["localhost/a:1"]}, item | {"RepoTags": ["localhost/b:1"]}]
        path = self.manifest(tmp_path, both, c=b"{}")
        with pytest.raises(ImageError, match="has 2 images") as error:
            open_archive(path)
        assert error.value.code == "CDG-M028"
        assert open_archive(path, "b:1").name == "localhost/b:1"


def test_marks_are_looked_up_by_directory() -> None:
    """A directory costs nothing for the marks of others: an image may have a million."""
    members: list[Member] = [
        ("a/.wh.x", b"", tarfile.REGTYPE),
        ("b/.wh.y", b"", tarfile.REGTYPE),
        (".wh.z", b"", tarfile.REGTYPE),
    ]
    marked = TarLayer(source(layered.layer(members)), "layer", Budget())
    assert {path: [*marked.names(path)] for path in ("a", "b")} == {
        "a": [("x", True)],
        "b": [("y", True)],
    }
    assert dict(marked.names("")) == {"a": False, "b": False, "z": True}


def test_components_of_a_path() -> None:
    assert layers.components("./a//b/") == ["a", "b"]
    assert layers.components("a/../b") is None
    assert layers.components("a\0b") is None
