# SPDX-License-Identifier: Apache-2.0
"""The OCI image: what is in it, and how it runs under real engines."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import socket
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from cdi_base import VERSION
from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY
from tests.kubernetes.kubelet import Kubelet, wait_until
from tests.lab.engines import Inside, Lab
from tests.lab.podman import Podman
from tests.metrics.serving import PATIENCE, request
from tests.packaging.conftest import shared
from tools.image.__main__ import build
from tools.image.programs import first_comment
from tools.steps import BuildError

IMAGE = f"localhost/cdi-gen:{VERSION}"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TIME = 1_700_000_000

CONFINED = (
    *("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=none"),
    "--read-only-tmpfs=false",
)
"""A container that can change nothing but its mounts."""
NONROOT = ("--user", "65532:65532")
COMPILERS = {"as", "c++", "cc", "clang", "cpp", "g++", "gcc", "ld", "make", "rustc"}
INSTALLERS = {"apk", "apt", "apt-get", "dpkg", "easy_install", "pip", "pip3", "uv"}


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the image for this machine."""

    def write(directory: Path) -> None:
        content, digest = build(platform.machine(), REPOSITORY, REVISION, TIME)
        (directory / "image.tar").write_bytes(content)
        (directory / "digest").write_text(digest)

    return shared(tmp_path_factory, "image", write) / "image.tar"


def test_a_license_is_taken_from_the_beginning_of_a_module() -> None:
    source = "#####\n# Copyright (c) A\n#\n# Redistribution and use:\n#    * no\n#####\n\n# code\nx = 1\n"
    assert first_comment(source) == "Copyright (c) A\n\nRedistribution and use:\n   * no\n"
    with pytest.raises(BuildError, match="does not begin with its license"):
        first_comment("# a module\nx = 1\n")


class Contents:
    """An image as its archive has it."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as tar:
            self.files = {entry.name: self._read(tar, entry) for entry in tar if entry.isfile()}
        self.index = json.loads(self.files["index.json"])
        self.manifest = json.loads(self.blob(self.index["manifests"][0]))
        self.config = json.loads(self.blob(self.manifest["config"]))
        self.entries: dict[str, tarfile.TarInfo] = {}
        self.content: dict[str, bytes] = {}
        for layer in self.manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(self.blob(layer)), mode="r:gz") as tar:
                for entry in tar:
                    self.entries[entry.name] = entry
                    if entry.isfile():
                        self.content[entry.name] = self._read(tar, entry)

    @staticmethod
    def _read(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
        file = tar.extractfile(entry)
        assert file is not None
        return file.read()

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        """A blob, whose size and digest are those of the descriptor."""
        content = self.files["blobs/" + descriptor["digest"].replace(":", "/")]
        assert len(content) == descriptor["size"]
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
        return content

    def names(self, *directories: str) -> set[str]:
        """The names in directories of programs."""
        return {
            name.rpartition("/")[2]
            for name in self.entries
            if name.rpartition("/")[0] in directories
        }


@pytest.fixture(scope="module")
def image(archive: Path) -> Contents:
    return Contents(archive)


@pytest.mark.network
class TestContents:
    def test_it_is_an_image_for_this_machine(self, image: Contents) -> None:
        names = {"x86_64": "amd64", "aarch64": "arm64"}
        assert image.config["architecture"] == names[platform.machine()]
        assert image.config["config"]["Entrypoint"] == ["/usr/bin/cdi-gen"]
        assert image.config["created"] == "2023-11-14T22:13:20Z"
        labels = image.config["config"]["Labels"]
        assert {name.rpartition(".")[2] for name in labels} == {
            *("created", "description", "licenses", "revision", "title", "version")
        }
        assert labels["org.opencontainers.image.revision"] == REVISION
        assert labels["org.opencontainers.image.version"] == VERSION

    def test_only_root_can_change_a_file_and_no_program_gives_rights(self, image: Contents) -> None:
        for name, entry in image.entries.items():
            assert (entry.uid, entry.gid) == (0, 0), name
            assert entry.type in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE), name
            assert not entry.mode & (stat.S_ISUID | stat.S_ISGID), name
            assert entry.issym() or not entry.mode & 0o022, name
            assert not entry.pax_headers, name

    def test_it_has_the_programs_that_it_needs_and_no_others(self, image: Contents) -> None:
        programs = image.names("usr/bin", "usr/sbin", "usr/local/bin", "usr/libexec")
        assert programs == {
            *("busybox", "cat", "cdi-gen", "nvidia-toolkit", "python3", "python3.13", "sh", "sleep")
        }
        names = {name.rpartition("/")[2] for name, entry in image.entries.items() if entry.isfile()}
        assert not names & (COMPILERS | INSTALLERS)
        packages = {name.split("/")[4] for name in image.entries if "/dist-packages/" in name}
        assert not packages & {"pip", "setuptools", "wheel"}
        assert not any(name.startswith("usr/lib/python3.13/ensurepip") for name in image.entries)

    def test_every_library_that_a_program_needs_is_there(self, image: Contents) -> None:
        present = {name.rpartition("/")[2] for name in image.entries}
        needed: dict[str, str] = {}
        for name, content in image.content.items():
            if content[:4] != b"\x7fELF":
                continue
            dynamic = ELFFile(io.BytesIO(content)).get_section_by_name(".dynamic")
            if isinstance(dynamic, DynamicSection):
                tags: list[Any] = list(dynamic.iter_tags("DT_NEEDED"))
                needed |= dict.fromkeys((tag.needed for tag in tags), name)
        assert "libc.so.6" in needed
        assert needed.keys() <= present

    def test_every_link_leads_to_something(self, image: Contents) -> None:
        merged = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
        for name, entry in image.entries.items():
            if not entry.issym():
                continue
            text = entry.linkname
            steps = (
                text.split("/")
                if text.startswith("/")
                else [*name.split("/")[:-1], *text.split("/")]
            )
            path: list[str] = []
            for step in steps:
                if step == "..":
                    path.pop()
                elif step not in {"", "."}:
                    path.append(step)
            path[:1] = merged.get(path[0], path[0]).split("/")
            assert "/".join(path) in image.entries, name

    def test_it_says_what_it_is_made_of(self, image: Contents) -> None:
        document = json.loads(image.content["usr/share/cdi-gen/packages.spdx.json"])
        listed = {package["name"] for package in document["packages"]}
        for name in image.entries:
            directory, _, last = name.rpartition("/")
            if last.endswith(".dist-info"):
                assert last.partition("-")[0].replace("_", "-").lower() in listed
            if directory == "var/lib/dpkg/status.d":
                assert last in listed
        assert {"libc6", "python3.13-minimal", "cdi-gen", "grpcio", "libffi"} <= listed

    def test_it_has_the_licenses_of_what_it_is_made_of(self, image: Contents) -> None:
        for name in image.names("var/lib/dpkg/status.d"):
            directory = image.entries[f"usr/share/doc/{name}"]
            other = directory.linkname or name
            assert f"usr/share/doc/{other}/copyright" in image.content, name
        bundle = "usr/share/cdi-gen/bundle/python/licenses"
        assert image.names(bundle) == {"CPython", "cdi-gen", "libffi", "musl"}
        assert "usr/share/doc/cdi-gen/copyright" in image.entries
        for name in image.entries:
            if name.endswith(".dist-info"):
                project = name.rpartition("/")[2].partition("-")[0].replace("_", "-")
                texts = (f"usr/share/doc/{project}/copyright", f"{name}/licen", f"{name}/copying")
                assert any(path.lower().startswith(texts) for path in image.content), name

    def test_every_module_is_compiled(self, image: Contents) -> None:
        """The image is read-only where it runs, and compiling would take most of a start."""
        for name in image.content:
            if name.endswith(".py"):
                directory, _, module = name.rpartition("/")
                compiled = f"{directory}/__pycache__/{module[:-3]}.cpython-313.pyc"
                assert compiled in image.content, name


@pytest.fixture(scope="module")
def inside(
    archive: Path, lab_of: Callable[[str], Lab], host: Callable[[str], FakeHost]
) -> Iterator[tuple[Inside, Path, FakeHost]]:
    """A lab with the image, a fake host in /fake, and a directory of sockets that the test sees too."""
    fake = host("550-8gpu")
    with (
        tempfile.TemporaryDirectory() as sockets,
        lab_of("trixie").enter(
            binds={"/image.tar": archive, "/fake": fake.root}, writable={"/sockets": sockets}
        ) as entered,
    ):
        Podman(entered).load("/image.tar")
        yield entered, Path(sockets), fake


@pytest.fixture(params=["crun", "runc"])
def podman(request: pytest.FixtureRequest, inside: tuple[Inside, Path, FakeHost]) -> Podman:
    return Podman(inside[0], runtime=request.param)


HOST = ("--volume", "/fake:/fake:ro")
HOST_ROOT = ("--host-root", "/fake")


@pytest.mark.engine
class TestContainers:
    def test_it_starts_with_no_rights(self, podman: Podman) -> None:
        ended = podman("run", "--rm", *CONFINED, *NONROOT, IMAGE, "--version")
        assert ended.stdout == f"cdi-gen {VERSION}\n"

    def test_scripts_of_the_gpu_operator_find_their_programs(self, podman: Podman) -> None:
        script = "until [[ -f /etc/passwd ]]; do sleep 5; done; cat /etc/group; exec nvidia-toolkit --help"
        shell = ("--entrypoint", "/bin/sh", IMAGE, "-c", script)
        ended = podman("run", "--rm", *CONFINED, *shell)
        assert "nonroot:x:65532:" in ended.stdout
        assert "Usage:" in ended.stdout

    def test_generate(self, podman: Podman) -> None:
        words = ("generate", *HOST_ROOT, "--hooks=none")
        ended = podman("run", "--rm", *CONFINED, *NONROOT, *HOST, IMAGE, *words)
        spec = json.loads(ended.stdout)
        assert {"0", "7", "all"} <= {device["name"] for device in spec["devices"]}

    def test_labels(self, podman: Podman) -> None:
        words = ("kubernetes", "labels", *HOST_ROOT, "--oneshot", "-o", "-")
        ended = podman("run", "--rm", *CONFINED, *NONROOT, *HOST, IMAGE, *words)
        assert "nvidia.com/gpu.count=8\n" in ended.stdout

    def test_metrics_are_served(
        self, podman: Podman, inside: tuple[Inside, Path, FakeHost]
    ) -> None:
        """The packages of the extra are in the image, with the libraries that they need."""
        entered, sockets, _ = inside
        mounts = (*HOST, "--volume", "/sockets:/sockets")
        address = f"unix:/sockets/{podman.runtime}.sock"
        hashed = "$2b$04$BAUjM4xV88ZZYfBH8zhhzOjdDqI1.x5Md7V0e8WRzIKHF1h9LRz0."
        (sockets / "web.yml").write_text(f"basic_auth_users: {{alice: {hashed}}}")
        words = ("metrics", *HOST_ROOT, "--listen", address, "--web-config", "/sockets/web.yml")
        run = ("podman", "--runtime", podman.runtime, "run", "--rm", "--name", podman.runtime)
        log = f"/metrics-{podman.runtime}.log"
        started = entered.start((*run, *CONFINED, *mounts, IMAGE, *words), log=log)
        path = sockets / f"{podman.runtime}.sock"
        try:
            wait_until(path.exists, 30)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(str(path))
                assert request(client, "/metrics").status == 401
        except (AssertionError, OSError) as error:
            pytest.fail(f"{error}; the log: {entered.read(log)}")
        finally:
            podman("stop", podman.runtime, check=False)
            (sockets / "web.yml").unlink()
        wait_until(lambda: started.returncode() is not None, 30)
        assert not path.exists()

    def test_the_device_plugin_serves_a_kubelet(
        self, podman: Podman, inside: tuple[Inside, Path, FakeHost]
    ) -> None:
        entered, sockets, fake = inside
        kubelet = Kubelet(sockets)
        kubelet.start()
        mounts = (*HOST, "--volume", "/sockets:/sockets", "--tmpfs", "/var/run/cdi:mode=0755")
        settings = ("--env", "DEVICE_LIST_STRATEGY=cdi-cri", "--env", "DP_DISABLE_HEALTHCHECKS=all")
        directories = ("--cdi-root", "/var/run/cdi", "--kubelet-socket", "/sockets/kubelet.sock")
        words = ("kubernetes", "device-plugin", *HOST_ROOT, *directories)
        run = ("podman", "--runtime", podman.runtime, "run", "--rm", "--name", podman.runtime)
        command = (*run, *CONFINED, *mounts, *settings, IMAGE, *words)
        log = f"/plugin-{podman.runtime}.log"
        started = entered.start(command, log=log)
        try:
            wait_until(lambda: len(kubelet.devices("nvidia.com/gpu")) == 8, 30)
            uuid = fake.kernel.gpus[0].uuid
            answer = kubelet.plugins["nvidia.com/gpu"].allocate(uuid)
            (device,) = answer.cdi_devices
            assert device.name == f"k8s.device-plugin.nvidia.com/gpu={uuid}"
        except (AssertionError, KeyError) as error:
            pytest.fail(f"{error}; the plugin's log: {entered.read(log)}")
        finally:
            podman("stop", podman.runtime, check=False)
            kubelet.stop()
        wait_until(lambda: started.returncode() is not None, 30)
        assert {path.name for path in sockets.iterdir()} <= {"kubelet.sock"}


@pytest.mark.nightly
@pytest.mark.network
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_two_builds_are_the_same(architecture: str) -> None:
    first, digest = build(architecture, REPOSITORY, REVISION, TIME)
    second, digest_of_second = build(architecture, REPOSITORY, REVISION, TIME)
    assert digest == digest_of_second
    assert first == second


@pytest.mark.nightly
@pytest.mark.network
def test_an_image_for_aarch64_has_programs_for_aarch64(tmp_path: Path) -> None:
    content, _ = build("aarch64", REPOSITORY, REVISION, TIME)
    (tmp_path / "image.tar").write_bytes(content)
    image = Contents(tmp_path / "image.tar")
    assert image.config["architecture"] == "arm64"
    machines = {
        ELFFile(io.BytesIO(content)).get_machine_arch()
        for content in image.content.values()
        if content[:4] == b"\x7fELF"
    }
    assert machines == {"AArch64"}
