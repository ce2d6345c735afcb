# SPDX-License-Identifier: Apache-2.0
"""The step enable-cuda-compat uses the image's libcuda only if the host supports it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hook.conftest import Container, Library, fingerprint
from tests.hook.runtimes import Runtime, hook_of, start
from tests.hook.test_loading import loads
from tests.lab.cuda import NOTE_SECTION

COMPAT = "/usr/local/cuda/compat"
DROP_IN = "etc/ld.so.conf.d/00-cdi-gen-compat.conf"
NOTE: dict[str, object] = {
    "format": 1,
    "CUDA Version": "12.9",
    "driver": [535, 550, 560, 565, 570, 575],
    "device": [1, 2, 7, 8, 9, 10, 11, 12, 13, 14],
}
"""The note of the libraries of cuda-compat-12-9."""

Compat = Callable[..., None]


@pytest.fixture
def compat(container: Container, compiled: Callable[..., Path]) -> Compat:
    """Write a compat libcuda to the image, with a note of these fields or this text, or without note."""

    def put(
        name: str = "libcuda.so.575.57.08",
        note: object = None,
        *,
        folder: str = COMPAT,
        answer: int = 43,
    ) -> None:
        text = note if isinstance(note, str) else json.dumps(note)
        source = f"int answer(void) {{ return {answer}; }}\n"
        if note is not None:
            # Once for the assembler, once for C.
            source += NOTE_SECTION.format(text=json.dumps(json.dumps(text))[1:-1])
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        options = ("-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libcuda.so.1")
        target = container.root / folder.lstrip("/") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(compiled(f"compat-{digest}", source, *options), target)

    return put


def ask(container: Container, *words: str, driver: str | None = "550.163.01") -> tuple[bool, str]:
    """Whether the image's library is used, and the output of the hook."""
    if driver is not None:
        words = (f"--host-driver-version={driver}", *words)
    ended = container.hook("enable-cuda-compat", *words)
    assert ended.status == 0
    assert ended.said.count("\n") <= 1
    container.assert_host_untouched()
    return (container.root / DROP_IN).exists(), ended.said


class TestLibraries:
    """Real ELF files with a note like that of NVIDIA's libraries."""

    def test_a_note_is_found(self, both: Container, compat: Compat) -> None:
        """545 is older but not in the note's list; by the version alone the library would be used."""
        compat(note=NOTE)
        assert ask(both) == (True, "")
        assert both.read(DROP_IN) == f"{COMPAT}\n"
        assert stat.S_IMODE((both.root / DROP_IN).stat().st_mode) == 0o644
        assert ask(both, driver="545.23.08") == (False, "")

    def test_library_without_a_note_is_used_on_older_drivers(
        self, container: Container, compat: Compat
    ) -> None:
        compat()
        assert ask(container, driver="545.23.08") == (True, "")
        assert ask(container, driver="575.51.03") == (False, "")

    def test_brands(self, container: Container, compat: Compat) -> None:
        compat(note=NOTE)
        assert ask(container, "--host-gpu-brand=nvidia", "--host-gpu-brand", "tesla") == (True, "")
        assert ask(container, "--host-gpu-brand=nvidia", "--host-gpu-brand=geforce") == (False, "")

    @pytest.mark.parametrize("name", ["CUDA Version", "CUDA version", "cuda version"])
    def test_the_cuda_version_of_a_note(
        self, container: Container, compat: Compat, name: str
    ) -> None:
        note = {key: value for key, value in NOTE.items() if key != "CUDA Version"}
        compat(note={**note, name: "12.10"})
        assert ask(container, "--host-cuda-version=12.9", driver=None) == (True, "")
        assert ask(container, "--host-cuda-version=12.10", driver=None) == (False, "")

    def test_library_of_orin_is_judged_by_the_cuda_version(
        self, container: Container, compat: Compat
    ) -> None:
        """libcuda.so.1.1 has no driver version in its name, so the CUDA version decides."""
        folder = "/usr/local/cuda/compat_orin"
        compat("libcuda.so.1.1", note=NOTE, folder=folder)
        words = (f"--cuda-compat-container-root={folder}", "--host-cuda-version=12.6")
        assert ask(container, *words, driver=None) == (True, "")
        assert container.read(DROP_IN) == f"{folder}\n"
        assert ask(container, words[0], "--host-cuda-version=12.9", driver=None) == (False, "")

    def test_links_to_the_library_do_not_count_as_further_libraries(
        self, container: Container, compat: Compat
    ) -> None:
        """NVIDIA's package has links; /usr/local/cuda is a link, or a chain of two."""
        compat(note=NOTE, folder="/usr/local/cuda-12.9/compat")
        folder = container.root / "usr/local/cuda-12.9/compat"
        (folder / "libcuda.so.1").symlink_to("libcuda.so.575.57.08")
        (folder / "libcuda.so").symlink_to("libcuda.so.1")
        (folder / "libcudadebugger.so.575.57.08").touch()
        (container.root / "usr/local/cuda").symlink_to("/etc/alternatives/cuda")
        (container.root / "etc/alternatives").mkdir()
        (container.root / "etc/alternatives/cuda").symlink_to("/usr/local/cuda-12.9")
        assert ask(container) == (True, "")

    @pytest.mark.parametrize("version", ["", "550 163", "550.163.01.02", "$(id)"])
    def test_invalid_version_of_the_host_disables_the_step(
        self, container: Container, compat: Compat, version: str
    ) -> None:
        compat(note=NOTE)
        before = (container.root / "etc").stat().st_mtime_ns
        assert ask(container, driver=version) == (False, "")
        assert (container.root / "etc").stat().st_mtime_ns == before

    def test_second_run_changes_nothing(self, container: Container, compat: Compat) -> None:
        compat(note=NOTE)
        ask(container)
        before = (container.root / DROP_IN).stat()
        ask(container)
        after = (container.root / DROP_IN).stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    @pytest.mark.parametrize("why", ["another host", "no library any more"])
    def test_drop_in_of_another_host_is_removed(
        self, container: Container, compat: Compat, why: str
    ) -> None:
        compat(note=NOTE)
        ask(container)
        if why == "no library any more":
            shutil.rmtree(container.root / "usr/local/cuda")
        assert ask(container, driver="580.65.06") == (False, "")

    @pytest.mark.parametrize(
        "words",
        [
            ("--host-gpu-brand=voodoo",),
            ("--cuda-compat-container-root=compat",),
            ("--cuda-compat-container-root=/a/../b",),
            ("--cuda-compat-container-root=/a\n/b",),
            ("--cuda-compat-container-root=/a:/b",),
            ("--cuda-compat-container-root=/a#b",),
            ("--no-such",),
        ],
    )
    def test_invalid_arguments_are_rejected(
        self, container: Container, words: tuple[str, ...]
    ) -> None:
        ended = container.hook("enable-cuda-compat", "--host-driver-version=1", *words)
        assert (ended.status, ended.said.count("\n")) == (2, 1)


class TestHostileImages:
    """The hook reads a bounded amount, changes nothing, and the container starts."""

    @pytest.fixture(autouse=True)
    def _outside(self, container: Container) -> None:
        """A library outside the container that would be used if it were in the image."""
        (container.canary / "dir/libcuda.so.999.1").write_bytes(b"\x7fELF")
        container.before = fingerprint(container.canary)

    @pytest.mark.parametrize("way", ["absolute", "climbing", "the file", "a chain", "itself"])
    def test_links_out_of_the_image_are_not_followed(self, both: Container, way: str) -> None:
        compat = both.root / COMPAT[1:]
        outside = both.canary / "dir"
        compat.parent.mkdir(parents=True)
        match way:
            case "absolute":
                compat.symlink_to(outside)
            case "climbing":
                compat.symlink_to("../../../../../canary/dir")
            case "the file":
                compat.mkdir()
                (compat / "libcuda.so.999.1").symlink_to(outside / "libcuda.so.999.1")
            case "a chain":
                compat.symlink_to("/out")
                (both.root / "out").symlink_to("../" * 30 + str(outside)[1:])
            case "itself":
                compat.symlink_to("compat")
        assert ask(both) == (False, "")

    @pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder", "long link", "file"])
    def test_path_that_is_not_a_directory_is_ignored(self, both: Container, kind: str) -> None:
        compat = both.root / COMPAT[1:]
        compat.parent.mkdir(parents=True)
        put(compat, kind if kind != "folder" else "pipe")
        assert ask(both) == (False, "")

    @pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder", "long link", "link to a pipe"])  # fmt: skip
    def test_library_that_is_not_a_regular_file_is_ignored(
        self, both: Container, kind: str
    ) -> None:
        compat = both.root / COMPAT[1:]
        compat.mkdir(parents=True)
        put(compat / "libcuda.so.999.1", kind)
        assert ask(both) == (False, "")

    def test_sparse_file_of_8_tib_is_read_within_limits(self, both: Container) -> None:
        """The file is not ELF and so has no note; the version in its name decides."""
        compat = both.root / COMPAT[1:]
        compat.mkdir(parents=True)
        (compat / "libcuda.so.999.1").touch()
        os.truncate(compat / "libcuda.so.999.1", 8 << 40)
        assert ask(both) == (True, "")

    def test_note_with_a_false_size_of_4_gib_is_read_within_limits(
        self, container: Container, compat: Compat
    ) -> None:
        """The section claims 4 GiB, and the sparse file has this size."""
        compat(note=NOTE)
        library = container.root / COMPAT[1:] / "libcuda.so.575.57.08"
        content = library.read_bytes()
        at = content.index(b"NVIDIA Corporation\0") - 8
        library.write_bytes(content[:at] + b"\xff\xff\xff\x7f" + content[at + 4 :])
        os.truncate(library, 8 << 40)
        used, _ = ask(container, driver="545.1")
        assert not used

    def test_directory_with_70000_names(self, container: Container) -> None:
        """All 70,000 names look like libcuda, and none is a regular file."""
        compat = container.root / COMPAT[1:]
        compat.mkdir(parents=True)
        first = compat / "libcuda.so.0.0"
        os.mkfifo(first)
        for group in range(2):
            folder = os.open(compat, os.O_RDONLY)
            name = f"libcuda.so.{group}.fifo"
            os.mkfifo(name, dir_fd=folder)
            # A file has at most 65,000 names on ext4.
            for number in range(35_000):
                os.link(name, f"libcuda.so.{group}.{number}x", src_dir_fd=folder, dst_dir_fd=folder)
            os.close(folder)
        ended = container.hook("enable-cuda-compat", "--host-driver-version=1")
        assert (ended.status, ended.said) == (0, "")

    def test_several_libraries_are_not_used(self, container: Container, compat: Compat) -> None:
        compat("libcuda.so.575.57.08")
        compat("libcuda.so.565.57.01")
        used, output = ask(container)
        assert not used
        assert output.startswith(
            "cdi-gen-hook: enable-cuda-compat: '/usr/local/cuda/compat': not used: the directory has"
        )

    @pytest.mark.parametrize(
        "text",
        ["{", "[]", "535", '{"driver": [550], "driver": [1]}', '{"driver": NaN}', "[" * 4000,
         '{"driver": [' + "550," * 4000 + "550]}", '{"driver": [' + "9" * 5000 + "]}"],
        ids=lambda text: text[:20],
    )  # fmt: skip
    def test_invalid_note_is_reported_and_ignored(
        self, container: Container, compat: Compat, text: str
    ) -> None:
        """The hook prints a line and judges the library as one without a note."""
        compat(note=text)
        used, output = ask(container, driver="545.1")
        assert used
        assert "the note of the image's libcuda is not" in output
        used, _ = ask(container, driver="575.51.03")
        assert not used

    def test_names_are_quoted(self, container: Container) -> None:
        for name in ("libcuda.so.1.\x1b[31m", "libcuda.so.1.\n" + "x" * 200):
            container.write(f"{COMPAT}/{name}")
        used, output = ask(container)
        assert not used
        assert "\x1b" not in output
        assert len(output) < 600

    def test_directory_without_read_permission(self, container: Container, compat: Compat) -> None:
        """In a user namespace the directory may belong to another user; the driver's libcuda is used."""
        compat(note=NOTE)
        folder = container.root / COMPAT[1:]
        folder.chmod(0o700)
        os.chown(folder, 1234, 1234)
        container.within = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        used, output = ask(container)
        assert not used
        assert "'/usr/local/cuda/compat': not used: Permission denied" in output


def put(place: Path, kind: str) -> None:
    """Create an unusual file in an image."""
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "device":
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        case "socket":
            os.mknod(place, stat.S_IFSOCK | 0o666)
        case "folder":
            place.mkdir()
        case "long link":
            place.symlink_to("x" * 300)
        case "file":
            place.touch()
        case "link to a pipe":
            os.mkfifo(place.parent / "pipe")
            place.symlink_to("pipe")


class TestWithTheCache:
    """Together with update-ldcache: the loader finds the compat libcuda before the driver's."""

    WORDS = (
        "create-container",
        "--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1",
        "--host-driver-version=550.163.01",
        "--folder", "/opt/odd",
    )  # fmt: skip

    def test_loader_finds_the_compat_library_first(
        self, container: Container, library: Library, compat: Compat
    ) -> None:
        library(container.root / "opt/odd/libcuda.so.550.1", "libcuda.so.1")
        compat(note=NOTE)
        (container.root / COMPAT[1:] / "libcuda.so.1").symlink_to("libcuda.so.575.57.08")
        assert container.hook(*self.WORDS).said == ""
        assert container.cached()["libcuda.so.1"] == f"{COMPAT}/libcuda.so.1"
        ended = container.hook(*self.WORDS, "--host-gpu-brand=geforce")
        assert (ended.status, ended.said) == (0, "")
        assert container.cached()["libcuda.so.1"] == "/opt/odd/libcuda.so.1"

    @pytest.mark.parametrize("conf", ["none", "with includes", "lists the driver's folder"])
    def test_whatever_the_image_lists(self, image: Container, compat: Compat, conf: str) -> None:
        compat(note=NOTE)
        (image.root / COMPAT[1:] / "libcuda.so.1").symlink_to("libcuda.so.575.57.08")
        if conf == "with includes":
            image.write("etc/ld.so.conf", "include ld.so.conf.d/*.conf\n")
        if conf == "lists the driver's folder":
            image.write("etc/ld.so.conf", "/opt/odd\ninclude ld.so.conf.d/*.conf\n")
        assert image.hook(*self.WORDS).said == ""
        assert loads(image, "libcuda.so.1") == {"libcuda.so.1": "43"}

    @pytest.mark.engine
    @pytest.mark.parametrize(("brand", "answer"), [("nvidia", "43"), ("geforce", "42")])
    def test_a_program_in_a_container_loads_it(
        self,
        runtime: Runtime,
        image: Container,
        bundle: Container,
        compat: Compat,
        brand: str,
        answer: str,
    ) -> None:
        compat(note=NOTE)
        (image.root / COMPAT[1:] / "libcuda.so.1").symlink_to("libcuda.so.575.57.08")
        words = (*self.WORDS, f"--host-gpu-brand={brand}")
        bundle.spec["hooks"] = {"createContainer": [hook_of(bundle, *words)]}
        bundle.spec["process"]["args"] = ["/bin/loads", "libcuda.so.1"]
        ended = start(runtime, bundle)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout == f"libcuda.so.1={answer}\n"

    def test_a_volume_over_the_configuration(self, container: Container, compat: Compat) -> None:
        """The volume is not changed; the hook prints a line if a change was needed."""
        compat(note=NOTE)
        (container.root / "etc/ld.so.conf.d").mkdir()
        container.with_mounts(
            f"mount --bind {container.canary}/dir {container.root}/etc/ld.so.conf.d"
        )
        used, output = ask(container)
        assert not used
        assert "the path is in a mount of its own: left out" in output
        assert ask(container, driver="580.1") == (False, "")
