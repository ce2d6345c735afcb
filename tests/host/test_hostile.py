# SPDX-License-Identifier: Apache-2.0
"""Driver roots with names, links and files that an attacker has placed there."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.cdi.validation import check
from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.generate import generate
from cdi_gen.inventory import Inventory, json_form
from cdi_gen.paths import is_safe
from tests.fakehost import hosts
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.fakehost.hosts import FakeHost
from tests.host.looking import look_at

OwnHost = Callable[[str], FakeHost]

pytestmark = pytest.mark.host

MULTIARCH = "usr/lib/x86_64-linux-gnu"
VERSION = "550.163.01"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    """The server host without the rest of a Debian, which takes half a second to copy."""
    try:
        fake = hosts.build("550-server", tmp_path_factory.mktemp("small") / "host")
    except DriverRootUnavailableError as error:
        pytest.skip(f"no fake host 550-server: {error}")
    for directory, kept in KEPT.items():
        for path in (fake.root / directory).iterdir():
            if not re.fullmatch(kept, path.name):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return fake


KEPT = {
    "": "bin|dev|etc|lib|lib64|proc|run|sbin|sys|tmp|usr",
    "etc": r"OpenCL|ld\.so\.cache|passwd|shadow",
    "sys": "module",
    "usr": "bin|lib|sbin",
    "usr/bin": "nvidia-.*",
    "usr/sbin": "nvidia-.*",
    "usr/lib": "firmware|x86_64-linux-gnu",
    MULTIARCH: "lib(cuda|nv).*|nvidia",
    "proc": "devices|driver|sys",
    "proc/driver": "nvidia",
}


@pytest.fixture
def fake(small: FakeHost, tmp_path: Path) -> FakeHost:
    """A host to do harm to: what is large is shared, what is written to is its own."""

    def copy(source: str, target: str) -> None:
        if os.path.isfile(source) and "/proc/" in source:
            shutil.copyfile(source, target)
        else:
            os.link(source, target)

    root = tmp_path / "host"
    shutil.copytree(small.root, root, symlinks=True, copy_function=copy)
    nvml = root / small.nvml.relative_to(small.root)
    return dataclasses.replace(small, root=root, driver_root=root, nvml=nvml)


def look_and_check(fake: FakeHost) -> Inventory:
    """The inventory; it and its spec are sound and hold nothing but safe names."""
    inventory = look_at(fake)
    assert json_form.load(json_form.dump(inventory)) == inventory
    spec = generate(inventory)
    assert not [each for each in check(spec) if each.severity != "warning"]
    for mount in spec.container_edits.mounts:
        assert is_safe(mount.host_path)
        assert is_safe(mount.container_path)
    for left in inventory.ignored:
        assert left.path.isascii()
        assert left.path.isprintable()
    return inventory


def names_of(inventory: Inventory) -> set[str]:
    return {library.path for library in inventory.libraries}


HOSTILE_NAMES = [
    b"libevil\n.so." + VERSION.encode(),
    b"libevil'.so." + VERSION.encode(),
    b'libevil".so.' + VERSION.encode(),
    b"libevil::.so." + VERSION.encode(),
    b"libevil,ro.so." + VERSION.encode(),
    b"libevil:rw.so." + VERSION.encode(),
    b"libevil$(id).so." + VERSION.encode(),
    b"libevil {}.so." + VERSION.encode(),
    b"libevil\\.so." + VERSION.encode(),
    b"libevil\x1b[31m.so." + VERSION.encode(),
    b"libevil\xff.so." + VERSION.encode(),
    "libevil\u2028.so.".encode() + VERSION.encode(),
    "libevil\u0660.so.".encode() + VERSION.encode(),
    b"libnvidia-api.so." + "\u0661".encode(),
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
@pytest.mark.parametrize("as_link", [False, True], ids=["file", "link"])
def test_hostile_library_names(fake: FakeHost, name: bytes, as_link: bool) -> None:
    """A29 driver-root-names."""
    directory = os.fsencode(fake.root / MULTIARCH)
    before = look_at(fake)
    real = directory + b"/libcuda.so." + VERSION.encode()
    if as_link:
        os.symlink(os.path.basename(real), directory + b"/" + name)
    else:
        os.link(real, directory + b"/" + name)
    after = look_and_check(fake)
    assert after.libraries == before.libraries
    assert as_link or len(after.ignored) > len(before.ignored)


def test_a_leading_dash_and_a_long_name(fake: FakeHost) -> None:
    """A29: names that are no library's at all, and one as long as a name can be."""
    directory = fake.root / MULTIARCH
    real = directory / f"libcuda.so.{VERSION}"
    longest = f"lib{'x' * (255 - 3 - 4 - len(VERSION))}.so.{VERSION}"
    for name in (f"-libevil.so.{VERSION}", f"--ldconfig-path=x.so.{VERSION}", longest):
        (directory / name).hardlink_to(real)
    added = names_of(look_and_check(fake)) - names_of(look_at(fake))
    assert not added
    assert f"/{MULTIARCH}/{longest}" in names_of(look_at(fake))
    assert not any("/-" in path for path in names_of(look_at(fake)))


def test_a_hostile_directory(fake: FakeHost) -> None:
    """A29: a directory that a pattern matches, with a name that no spec can carry."""
    for name in (b"new\nline", b"\xff\xfe", b"-v", b"a:b", b"{version}", b"*"):
        directory = os.fsencode(fake.root / MULTIARCH) + b"/nvidia/" + name
        os.makedirs(directory)
        os.link(fake.nvml, directory + b"/libnvidia-new.so." + VERSION.encode())
        xorg = directory + b"/xorg/modules/drivers"
        os.makedirs(xorg)
        os.link(fake.nvml, xorg + b"/nvidia_drv.so")
    inventory = look_and_check(fake)
    assert not any("libnvidia-new" in path for path in names_of(inventory))
    assert len([each for each in inventory.ignored if "libnvidia-new" in each.path]) == 6


@pytest.mark.parametrize("as_link", [False, True], ids=["file", "link"])
@pytest.mark.parametrize("name", [b"gsp\n.bin", b"gsp\xff.bin", b"gsp\x1b[31m.bin"], ids=ascii)
def test_hostile_firmware_names(fake: FakeHost, name: bytes, *, as_link: bool) -> None:
    """A29 driver-root-names."""
    before = look_at(fake).files
    directory = os.fsencode(fake.root / f"usr/lib/firmware/nvidia/{VERSION}")
    if as_link:
        os.symlink(b"gsp_tu10x.bin", directory + b"/" + name)
    else:
        os.link(directory + b"/gsp_tu10x.bin", directory + b"/" + name)
    inventory = look_and_check(fake)
    assert inventory.files == before
    assert [each.path for each in inventory.ignored if each.path.endswith(".bin")]


KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o666),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "looping link": lambda path: path.symlink_to(path.name),
    "link through a file": lambda path: path.symlink_to("/etc/passwd/nothing"),
    "empty": Path.touch,
    "garbage": lambda path: path.write_bytes(os.urandom(1 << 16)),
    "beginning of an ELF file": lambda path: path.write_bytes(b"\x7fELF\x02\x01\x01"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_library_is_ignored(fake: FakeHost, kind: str) -> None:
    """The file has the name of a driver library; all other libraries are found as before."""
    before = names_of(look_at(fake))
    path = fake.root / MULTIARCH / f"libnvidia-new.so.{VERSION}"
    KINDS[kind](path)
    inventory = look_and_check(fake)
    assert names_of(inventory) == before
    assert [each.path for each in inventory.ignored if "libnvidia-new" in each.path]


@pytest.mark.parametrize("kind", [*KINDS][:7])
@pytest.mark.parametrize(
    "name",
    [
        "usr/bin/nvidia-smi",
        "etc/OpenCL/vendors/nvidia.icd",
        f"usr/lib/firmware/nvidia/{VERSION}/gsp_tu10x.bin",
        "etc/ld.so.cache",
    ],
)
def test_what_is_no_file(fake: FakeHost, name: str, kind: str) -> None:
    """In the place of a program, a configuration file, a firmware image and the loader's cache."""
    before = look_at(fake)
    (fake.root / name).unlink()
    KINDS[kind](fake.root / name)
    inventory = look_and_check(fake)
    assert names_of(inventory) == names_of(before)
    expected = {file.path for file in before.files} - {f"/{name}"}
    assert {file.path for file in inventory.files} == expected


@pytest.mark.parametrize("text", ["/etc/secret", "../../../../../../../../etc/secret"])
def test_links_stay_inside_of_the_root(own_host: OwnHost, text: str) -> None:
    """A28: an absolute link of the driver root, and one with too many dots, lead nowhere else."""
    fake = own_host("550-operator")
    library = fake.driver_root / MULTIARCH / f"libnvidia-new.so.{VERSION}"
    library.symlink_to(text)
    (fake.root / "etc/secret").write_bytes(fake.nvml.read_bytes())
    assert not any("secret" in path for path in names_of(look_and_check(fake)))
    target = fake.driver_root / "etc" / f"libnvidia-new.so.{VERSION}"
    target.hardlink_to(fake.nvml)
    library.unlink()
    library.symlink_to(text.replace("secret", target.name))
    assert f"/run/nvidia/driver/etc/{target.name}" in names_of(look_and_check(fake))


@pytest.mark.parametrize("text", ["/etc/shadow", "../../../../../../../../etc/shadow"])
def test_links_to_the_password_file(fake: FakeHost, text: str) -> None:
    """A28 driver-root-links: it is no library and no program: nothing of it gets into a spec."""
    for name in (f"{MULTIARCH}/libnvidia-new.so.{VERSION}", "usr/bin/nvidia-debugdump"):
        (fake.root / name).unlink(missing_ok=True)
        (fake.root / name).symlink_to(text)
    spec = generate(look_and_check(fake))
    assert not [each for each in spec.container_edits.mounts if "shadow" in each.host_path]


@pytest.mark.parametrize("kept", [1, 40, 63, 200, 4096, 1 << 16])
def test_a_truncated_library(fake: FakeHost, kept: int) -> None:
    path = fake.root / MULTIARCH / f"libnvidia-opencl.so.{VERSION}"
    head = path.read_bytes()[:kept]
    path.unlink()
    path.write_bytes(head)
    inventory = look_and_check(fake)
    assert str(path).removeprefix(str(fake.root)) in {each.path for each in inventory.ignored}


@pytest.mark.parametrize(
    "content",
    [b"", b"ld.so-1.7.0\0", b"glibc-ld.so.cache1.1", b"\0" * 4096, b"glibc-ld.so.cache1.1" * 99],
)
def test_a_damaged_loader_cache(fake: FakeHost, content: bytes) -> None:
    """The usual directories are searched all the same."""
    before = names_of(look_at(fake))
    (fake.root / "etc/ld.so.cache").unlink()
    (fake.root / "etc/ld.so.cache").write_bytes(content)
    inventory = look_and_check(fake)
    assert names_of(inventory) == before
    assert "/etc/ld.so.cache" in {each.path for each in inventory.ignored}


class TestDeviceNodes:
    """What is in /dev is no authority: the kernel's numbers are."""

    @staticmethod
    def node(fake: FakeHost, path: str) -> tuple[int, int, bool]:
        inventory = look_and_check(fake)
        nodes = [gpu.nodes[0] for gpu in inventory.gpus] + list(inventory.control_nodes)
        (found,) = (each for each in nodes if each.path == f"/{path}")
        return found.major, found.minor, found.present

    @staticmethod
    def skipped(fake: FakeHost) -> bool:
        """Whether the first GPU is left out because its node is none."""
        inventory = look_and_check(fake)
        assert [gpu.index for gpu in inventory.gpus] == [1, 2, 3]
        return [each.reason for each in inventory.unusable_devices] == [
            "/dev/nvidia0 is not a device node"
        ]

    @pytest.mark.parametrize(
        "kind", ["fifo", "directory", "socket", "dangling link", "looping link", "empty"]
    )
    def test_another_kind_of_file(self, fake: FakeHost, kind: str) -> None:
        """A30 dev-root-nodes."""
        for name in ("nvidia0", "nvidia-uvm"):
            (fake.root / "dev" / name).unlink()
            KINDS[kind](fake.root / "dev" / name)
        assert self.skipped(fake)
        assert self.node(fake, "dev/nvidia-uvm") == (510, 0, False)

    def test_a_block_device_of_the_same_numbers(self, fake: FakeHost) -> None:
        """A30 dev-root-nodes."""
        (fake.root / "dev/nvidia0").unlink()
        os.mknod(fake.root / "dev/nvidia0", stat.S_IFBLK | 0o666, os.makedev(195, 0))
        assert self.skipped(fake)

    def test_a_link_to_a_disk(self, fake: FakeHost) -> None:
        """A30 dev-root-nodes."""
        (fake.root / "dev/nvidia0").unlink()
        (fake.root / "dev/nvidia0").symlink_to("sda")
        assert self.skipped(fake)

    def test_the_kernels_memory_under_a_gpus_name(self, fake: FakeHost) -> None:
        """A30: a node with other numbers is reported, and the spec has the right ones."""
        (fake.root / "dev/nvidia0").unlink()
        os.mknod(fake.root / "dev/nvidia0", stat.S_IFCHR | 0o666, os.makedev(1, 1))
        assert self.node(fake, "dev/nvidia0") == (195, 0, True)
        stale = {each.path: each.reason for each in look_at(fake).stale_nodes}
        assert "1:1" in stale["/dev/nvidia0"]

    def test_the_major_of_another_boot(self, fake: FakeHost) -> None:
        """nvidia-container-toolkit issue 1934: 510 was written, 509 was right."""
        devices = fake.root / "proc/devices"
        devices.write_text(devices.read_text().replace("510 nvidia-uvm", "509 nvidia-uvm"))
        assert self.node(fake, "dev/nvidia-uvm") == (509, 0, True)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("libz{}.so.1", 2.0),
        # The driver's own version on every one: each is opened, and none is a library.
        (f"libnvidia-{{}}.so.{VERSION}", 2.0),
        # A version of the driver each.
        ("libcuda.so.{}.1000.1", 2.0),
    ],
)
def test_a_huge_directory(fake: FakeHost, name: str, seconds: float) -> None:
    before = names_of(look_at(fake))
    for number in range(20_000):
        (fake.root / MULTIARCH / name.format(100 + number)).touch()
    start = time.process_time()  # how busy the machine is does not count
    inventory = look_at(fake)
    assert time.process_time() - start < seconds
    assert names_of(inventory) == before


def test_no_library_at_all(fake: FakeHost) -> None:
    for path in (fake.root / MULTIARCH).iterdir():
        if VERSION in path.name:
            path.unlink()
    with pytest.raises(CdiGenError, match="none of its libraries is installed") as caught:
        look_at(fake)
    assert caught.value.exit_code is ExitCode.ERROR  # the unit is not to be green over it
    assert f"libcuda.so.{VERSION}" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["dangling link", "looping link", "fifo", "empty", "garbage"])
def test_no_library_that_can_be_used(fake: FakeHost, kind: str) -> None:
    """A package that is half removed: a spec of devices alone would be no success."""
    for path in (fake.root / MULTIARCH).iterdir():
        if VERSION in path.name:
            path.unlink()
            if path.name.startswith(("libcuda.so", "libnvidia-ml.so")):
                KINDS[kind](path)
    with pytest.raises(CdiGenError, match=r"none of its libraries is|no library of it") as caught:
        look_at(fake)
    assert caught.value.exit_code is ExitCode.ERROR


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GPU UUID: \t GPU-\x1b[31m\nDevice Minor: \t x\n",
        "Device Minor: \t -1\n",
        "Device Minor: \t \u0661\n",
        "Model: \t\t \x1b]0;title\x07\nDevice Minor: \t 0\n",
        "Device Minor: \t " + "9" * 5000 + "\n",
        "Device Minor: \t 4294967296\n",
    ],
    ids=ascii,
)
def test_hostile_procfs(fake: FakeHost, text: str) -> None:
    """The kernel is trusted, but a GPU that it describes wrongly costs only itself."""
    for path in (fake.root / "proc/driver/nvidia/gpus").iterdir():
        (path / "information").write_text(text)
        break
    inventory = look_and_check(fake)
    assert len(inventory.gpus) in (3, 4)
    for gpu in inventory.gpus:
        assert gpu.model.isprintable()
        assert gpu.minor is not None
        assert gpu.minor < 1 << 20
