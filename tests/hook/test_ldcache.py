# SPDX-License-Identifier: Apache-2.0
"""The step update-ldcache for images with glibc, musl, both or neither."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_hook.ldso import conf
from cdi_hook.steps import update_ldcache
from tests.hook.conftest import HOOKS, MACHINE, PYTHON, TRIPLET, Container, fingerprint
from tests.hook.shared_objects import shared_object

DROP_IN = "/etc/ld.so.conf.d/00-cdi-gen.conf"
MUSL = f"/lib/ld-musl-{MACHINE}.so.1"
PATH_FILE = f"/etc/ld-musl-{MACHINE}.path"

Library = Callable[[Path, str], None]

COMPAT = conf.COMPAT


@pytest.fixture
def debian(container: Container, library: Library) -> Container:
    """The files of a Debian image that configure its loader."""
    container.write("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
    container.write("/etc/ld.so.conf.d/libc.conf", "# libc default configuration\n/usr/local/lib\n")
    container.write(
        f"/etc/ld.so.conf.d/{TRIPLET}.conf",
        f"# Multiarch support\n/usr/local/lib/{TRIPLET}\n/lib/{TRIPLET}\n/usr/lib/{TRIPLET}\n",
    )
    (container.root / "lib").rmdir()
    (container.root / "lib").symlink_to("usr/lib")
    container.write(update_ldcache.GLIBC_LOADER)
    library(container.root / f"usr/lib/{TRIPLET}/libc.so.6", "libc.so.6")
    library(container.root / f"usr/lib/{TRIPLET}/libimage.so.3", "libimage.so.3")
    library(container.root / "opt/odd/libcuda.so.550.1", "libcuda.so.1")
    library(container.root / f"usr/lib/{TRIPLET}/libcuda.so.550.1", "libcuda.so.1")
    library(container.root / "usr/lib64/libnvidia-ml.so.550.1", "libnvidia-ml.so.1")
    return container


def test_our_folder_comes_first_and_the_images_are_kept(debian: Container) -> None:
    ended = debian.hook(
        "update-ldcache", "--folder", "/opt/odd", "--folder=/usr/lib64", "--folder", "/not/there"
    )
    assert (ended.status, ended.said) == (0, "")
    assert debian.read(DROP_IN) == "/opt/odd\n/usr/lib64\n"
    assert debian.cached() == {
        "libcuda.so.1": "/opt/odd/libcuda.so.1",
        "libnvidia-ml.so.1": "/usr/lib64/libnvidia-ml.so.1",
        "libc.so.6": f"/lib/{TRIPLET}/libc.so.6",
        "libimage.so.3": f"/lib/{TRIPLET}/libimage.so.3",
    }


def test_a_folder_that_the_image_lists_needs_no_file_of_ours(debian: Container) -> None:
    ended = debian.hook(
        "update-ldcache", "--folder", f"/usr/lib/{TRIPLET}", "--folder", "/usr/local/lib"
    )
    assert ended.status == 0
    assert not (debian.root / DROP_IN[1:]).exists()
    assert "libcuda.so.1" in debian.cached()


def test_a_drop_in_of_another_host_goes(debian: Container) -> None:
    debian.write(DROP_IN, "/from/another/host\n")
    assert debian.hook("update-ldcache", "--folder", f"/usr/lib/{TRIPLET}").status == 0
    assert not (debian.root / DROP_IN[1:]).exists()


@pytest.mark.parametrize("folder", ["/opt/odd", f"/usr/lib/{TRIPLET}"])
def test_a_second_start_changes_nothing(debian: Container, folder: str) -> None:
    words = (
        "create-container",
        "--link",
        "libcuda.so.550.1::/opt/odd/libcuda.so.1",
        "--folder",
        folder,
    )
    debian.hook(*words)
    once = fingerprint(debian.root)
    assert debian.hook(*words).status == 0
    assert fingerprint(debian.root) == once


def test_a_later_ldconfig_keeps_our_folder(debian: Container) -> None:
    debian.hook("update-ldcache", "--folder", "/opt/odd")
    (debian.root / "etc/ld.so.cache").unlink()
    subprocess.run(["/sbin/ldconfig", "-X", "-r", debian.root], check=True, capture_output=True)
    assert debian.cached()["libcuda.so.1"] == "/opt/odd/libcuda.so.1"


def test_an_old_cache_is_replaced_whatever_it_is(debian: Container) -> None:
    debian.write("/etc/ld.so.cache", "stale")
    assert debian.hook("update-ldcache", "--folder", "/opt/odd").status == 0
    assert "libcuda.so.1" in debian.cached()


def test_an_image_of_the_other_family(container: Container, library: Library) -> None:
    """In Fedora's layout the loader does not search Debian's directory, and vice versa."""
    library(container.root / "usr/lib64/libc.so.6", "libc.so.6")
    (container.root / "lib64").symlink_to("usr/lib64")
    library(container.root / f"usr/lib/{TRIPLET}/libcuda.so.1", "libcuda.so.1")
    assert (
        container.hook(
            "update-ldcache", "--folder", f"/usr/lib/{TRIPLET}", "--folder", "/usr/lib64"
        ).status
        == 0
    )
    assert container.read(DROP_IN) == f"/usr/lib/{TRIPLET}\n"
    assert {"libc.so.6", "libcuda.so.1"} <= container.cached().keys()


def test_distroless(container: Container, library: Library) -> None:
    """An image without ldconfig, configuration and cache: its loader reads a cache anyway."""
    for folder in ("tmp", "run", "sys", "dev", "bin"):
        (container.root / folder).rmdir()
    library(container.root / "opt/odd/libcuda.so.1", "libcuda.so.1")
    ended = container.hook("update-ldcache", "--folder", "/opt/odd")
    assert (ended.status, ended.said) == (0, "")
    assert container.read("/etc/ld.so.conf") == "include /etc/ld.so.conf.d/*.conf\n"
    assert container.cached() == {"libcuda.so.1": "/opt/odd/libcuda.so.1"}


def test_an_image_without_a_directory_for_the_tmpfs(container: Container) -> None:
    for folder in ("proc", "sys", "dev", "tmp", "run"):
        (container.root / folder).rmdir()
    (container.root / "opt").rename(container.root / "weird")
    (container.root / "proc").symlink_to("weird")
    words = ("update-ldcache", "--folder", "/weird/odd")
    ended = container.hook(*words, "--ldconfig-path", "/sbin/ldconfig")
    assert ended.status == 0
    assert "left out: the sandbox for ldconfig cannot be set up here" in ended.said
    ended = container.hook(*words)
    assert (ended.status, ended.said) == (0, "")
    assert container.cached() == {}


def test_with_and_without_ldconfig(debian: Container) -> None:
    """Our writer and ldconfig write the same cache, with the generator of the image's cache."""
    words = ("update-ldcache", "--folder", "/opt/odd")
    assert debian.hook(*words, "--ldconfig-path", "/sbin/ldconfig").status == 0
    once = fingerprint(debian.root)
    assert debian.hook(*words).status == 0
    assert fingerprint(debian.root) == once


def test_no_program_is_needed(debian: Container) -> None:
    """The host has no ldconfig, and no process can be created."""
    debian.altered(os__fork="None", os__execve="None")
    debian.launcher[-1] = debian.launcher[-1].replace("import sys", "import sys, os", 1)
    assert debian.hook("update-ldcache", "--folder", "/opt/odd").status == 0
    assert "libcuda.so.1" in debian.cached()


def test_the_compat_libraries_come_before_the_hosts(debian: Container, library: Library) -> None:
    """After the hook, and after a later run of ldconfig in the container."""
    library(debian.root / "usr/local/cuda-13.1/compat/libcuda.so.590.1", "libcuda.so.1")
    library(debian.root / "usr/local/cuda-13.1/compat/libcuda.so.1", "libcuda.so.1")
    debian.write(COMPAT, "/usr/local/cuda-13.1/compat\n")
    assert debian.hook("update-ldcache", "--folder", "/opt/odd").status == 0
    assert debian.cached()["libcuda.so.1"] == "/usr/local/cuda-13.1/compat/libcuda.so.1"
    (debian.root / "etc/ld.so.cache").unlink()
    subprocess.run(["/sbin/ldconfig", "-X", "-r", debian.root], check=True, capture_output=True)
    assert debian.cached()["libcuda.so.1"] == "/usr/local/cuda-13.1/compat/libcuda.so.1"


def test_several_architectures(debian: Container) -> None:
    """i386 beside x86_64: the same names, each with the flags of its own loader."""
    for machine, folder in (("x86_64", f"usr/lib/{TRIPLET}"), ("i386", "usr/lib/i386-linux-gnu")):
        for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
            debian.write(f"/{folder}/{name}", shared_object(name.encode(), machine))
    words = ("--folder", f"/usr/lib/{TRIPLET}", "--folder", "/usr/lib/i386-linux-gnu")
    assert debian.hook("update-ldcache", *words).status == 0
    listing = subprocess.run(
        ["/sbin/ldconfig", "-p", "-C", debian.root / "etc/ld.so.cache"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"libcuda.so.1 (libc6,x86-64) => /lib/{TRIPLET}/libcuda.so.1" in listing
    assert "libcuda.so.1 (libc6) => /usr/lib/i386-linux-gnu/libcuda.so.1" in listing


@pytest.mark.parametrize("kind", ["missing", "damaged", "too large", "pipe", "of an older glibc"])
def test_whatever_cache_the_image_has(debian: Container, kind: str) -> None:
    """A valid cache saves reading files; the result is the same with any cache."""
    words = ("update-ldcache", "--folder", "/opt/odd")
    cache = debian.root / "etc/ld.so.cache"
    assert debian.hook(*words).status == 0
    expected = cache.read_bytes()
    match kind:
        case "missing":
            cache.unlink()
        case "damaged":
            cache.write_bytes(expected[:60])
        case "too large":
            cache.write_bytes(expected + bytes(update_ldcache.MAX_OLD_CACHE))
        case "pipe":
            cache.unlink()
            os.mkfifo(cache)
        case "of an older glibc":
            command = ["/sbin/ldconfig", "-X", "-r", str(debian.root), "-c", "compat"]
            subprocess.run(command, check=True, capture_output=True)
            assert cache.read_bytes().startswith(b"ld.so-1.7.0")
    ended = debian.hook(*words)
    assert (ended.status, ended.said) == (0, "")
    assert cache.read_bytes() == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "/lib\n/usr/local/lib\n/usr/lib\n/opt/odd\n/opt/two\n"),
        ("/lib:/usr/lib", "/lib:/usr/lib\n/opt/odd\n/opt/two\n"),
        ("/lib\n/opt/two\n", "/lib\n/opt/two\n/opt/odd\n"),
        ("", "/opt/odd\n/opt/two\n"),
        ("/opt/two:/opt/odd", "/opt/two:/opt/odd"),
    ],
)
def test_musl(container: Container, before: str | None, after: str) -> None:
    container.write(MUSL)
    (container.root / "opt/two").mkdir()
    if before is not None:
        container.write(PATH_FILE, before)
    words = (
        "update-ldcache",
        "--folder",
        "/opt/odd",
        "--folder",
        "/opt/two",
        "--folder",
        "/not/there",
    )
    assert container.hook(*words).status == 0
    assert container.read(PATH_FILE) == after
    once = fingerprint(container.root)
    assert container.hook(*words).status == 0
    assert fingerprint(container.root) == once
    assert os.listdir(container.root / "etc") == [PATH_FILE.rpartition("/")[2]]


def test_musl_needs_no_file_for_its_default_directories(container: Container) -> None:
    container.write(MUSL)
    assert container.hook("update-ldcache", "--folder", "/usr/lib").status == 0
    assert os.listdir(container.root / "etc") == []


def test_both_loaders(debian: Container) -> None:
    debian.write(MUSL.replace("/lib", "/usr/lib"))
    assert debian.hook("update-ldcache", "--folder", "/opt/odd").status == 0
    assert debian.read(PATH_FILE).endswith("/usr/lib\n/opt/odd\n")
    assert debian.cached()["libcuda.so.1"] == "/opt/odd/libcuda.so.1"


def test_step_without_a_directory_changes_nothing(container: Container) -> None:
    before = fingerprint(container.root)
    for name in ("update-ldcache", "create-container"):
        ended = container.hook(name, "--ldconfig-path", "/does/not/exist")
        assert (ended.status, ended.said) == (0, "")
    assert fingerprint(container.root) == before


@pytest.mark.parametrize("folder", ["opt", "/a/../b", "/a#b", "/a=b", "/a:b", "/a\nb", "/a ", ""])
def test_directory_name_that_no_loader_can_read_is_rejected(
    container: Container, folder: str
) -> None:
    ended = container.hook("update-ldcache", "--folder", folder)
    assert ended.status == 2
    assert ended.said.count("\n") == 1


class TestWhichLdconfig:
    """A09: only a static ldconfig of the host is run, and only if it belongs to root."""

    @pytest.mark.parametrize("path", ["@/sbin/ldconfig", "/sbin/ldconfig"])
    def test_named_ldconfig_is_run(self, debian: Container, path: str) -> None:
        assert (
            debian.hook("update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", path).status
            == 0
        )
        assert "libcuda.so.1" in debian.cached()

    def test_ldconfig_real_beside_a_wrapper_is_run(self, debian: Container) -> None:
        """As on Ubuntu."""
        wrapper = debian.bundle / "ldconfig"
        wrapper.write_text("#!/bin/sh\nexec /bin/false\n")
        wrapper.chmod(0o755)
        shutil.copy("/sbin/ldconfig", debian.bundle / "ldconfig.real")
        ended = debian.hook(
            "update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", str(wrapper)
        )
        assert (ended.status, ended.said) == (0, "")
        assert "libcuda.so.1" in debian.cached()

    @pytest.mark.parametrize("kind", ["script", "dynamic", "missing", "empty", "cut off"])
    def test_an_ldconfig_that_is_not_static_is_not_run(self, debian: Container, kind: str) -> None:
        program = debian.bundle / "program"
        match kind:
            case "script":
                program.write_text(f"#!/bin/sh\necho run > {debian.canary}/file\n")
            case "dynamic":
                shutil.copy("/bin/true", program)
            case "empty":
                program.touch()
            case "cut off":
                program.write_bytes(Path("/sbin/ldconfig").read_bytes()[:100])
        if program.exists():
            program.chmod(0o755)
        ended = debian.hook(
            "create-container", "--link", "libc.so.6::/opt/odd/x", "--link", "libcuda.so.550.1::/opt/odd/y",
            "--folder", "/opt/odd", "--ldconfig-path", str(program),
        )  # fmt: skip
        assert ended.status == 0
        assert "left out: no static ldconfig on the host" in ended.said
        assert (debian.root / "opt/odd/y").is_symlink()
        assert not (debian.root / "etc/ld.so.cache").exists()
        debian.assert_host_untouched()

    @pytest.mark.parametrize("kind", ["another's", "writable", "pipe", "folder"])
    def test_an_ldconfig_that_another_user_may_change_is_refused(
        self, debian: Container, kind: str
    ) -> None:
        program = debian.bundle / "program"
        if kind == "pipe":
            os.mkfifo(program)
        elif kind == "folder":
            program.mkdir()
        else:
            shutil.copy("/sbin/ldconfig", program)
            program.chmod(0o775 if kind == "writable" else 0o755)
            os.chown(program, 1000 if kind == "another's" else 0, 0)
        ended = debian.hook(
            "update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", str(program)
        )
        assert ended.status == 1
        assert ended.said.count("\n") == 1

    @pytest.mark.parametrize(
        "path", ["sbin/ldconfig", "../sbin/ldconfig", "", "@", "@sbin/ldconfig", "/x/../y"]
    )
    def test_it_must_be_an_absolute_path(self, debian: Container, path: str) -> None:
        assert (
            debian.hook("update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", path).status
            == 2
        )

    def test_ldconfig_of_the_image_is_never_run(self, debian: Container) -> None:
        for path in ("sbin/ldconfig", "sbin/ldconfig.real", "usr/sbin/ldconfig", "bin/sh"):
            debian.write(path, f"#!/bin/sh\necho run > {debian.canary}/file\n").chmod(0o755)
        assert debian.hook("update-ldcache", "--folder", "/opt/odd").status == 0
        debian.assert_host_untouched()

    @pytest.mark.parametrize("named", [False, True])
    def test_sandbox_is_imported_only_with_an_ldconfig_path(self, named: bool) -> None:
        """The import happens in `prepare`, before any input is read."""
        options = {"--folder": ["/x"], "--ldconfig-path": ["/sbin/ldconfig"] if named else []}
        script = f"""if True:
            import sys
            sys.path.insert(0, {str(HOOKS)!r})
            from cdi_hook import __main__
            from cdi_hook.steps import update_ldcache
            print("cdi_hook.ldso.sandbox" in sys.modules)
            update_ldcache.prepare({options})
            print("cdi_hook.ldso.sandbox" in sys.modules)
        """
        ended = subprocess.run(
            [PYTHON, "-IBSc", script], capture_output=True, text=True, check=True
        )
        assert ended.stdout.split() == ["False", str(named)]
