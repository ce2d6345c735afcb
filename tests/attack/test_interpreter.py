# SPDX-License-Identifier: Apache-2.0
"""Code of the image: modules, programs and libraries that lie where a careless hook looks for its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.victim import Victim
from tests.hook.conftest import ENVIRONMENT, TRIPLET

PROGRAMS = ("sh", "env", "ldconfig", "ldconfig.real", "mount", "unshare", "nvidia-smi", "python3", "true")  # fmt: skip


def without_tool(name: str) -> bool:
    return shutil.which(name) is None


traced = pytest.mark.skipif(without_tool("strace"), reason="needs strace")


def test_modules_in_the_folder_it_is_started_in(hostile: Victim) -> None:
    """A05 cwd-import: runc starts a hook in the image's root."""
    poison = f"open({str(hostile.canary / 'file')!r}, 'w').write('imported')\n"
    names = ("json", "os", "_json", "select", "resource", "fcntl", "struct", "errno", "glob")
    for name in (
        *names,
        "sitecustomize",
        "usercustomize",
        "runpy",
        "cdi_base",
        "cdi_hook",
        "cdi_gen",
    ):
        hostile.write(f"/{name}.py", poison)
    for package in ("ctypes", "encodings", "importlib"):
        hostile.write(f"/{package}/__init__.py", poison)
    hostile.write("/pyvenv.cfg", "home = /\n")
    hostile.write("/evil.pth", f"import os; {poison}")
    hostile.attack(*Victim.FULL).harmless(0)


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT"])
def test_an_interpreter_that_is_told_of_the_image(hostile: Victim, name: str) -> None:
    """A05 cwd-import, by the environment: nothing is imported, and the spec's fault is named."""
    hostile.write("/json.py", f"open({str(hostile.canary / 'file')!r}, 'w')\n")
    attempt = hostile.attack(*Victim.FULL, environment={**ENVIRONMENT, name: str(hostile.root)})
    attempt.harmless(1)
    assert "in the environment" in attempt.said
    assert attempt.before == attempt.after


def with_programs(victim: Victim) -> None:
    for folder in ("bin", "sbin", "usr/bin", "usr/sbin"):
        for name in PROGRAMS:
            program = f"#!/bin/sh\necho run > {victim.canary}/file\n"
            victim.write(f"/{folder}/{name}", program).chmod(0o755)


@traced
@pytest.mark.parametrize("path", [ENVIRONMENT["PATH"], "bin:sbin:usr/bin:.:"])
def test_programs_of_the_image(hostile: Victim, path: str) -> None:
    """A08 image-binaries: by no path of theirs, and by no PATH; nothing at all is run (O-EXEC)."""
    with_programs(hostile)
    hostile.traced()
    attempt = hostile.attack(*Victim.FULL, environment={**ENVIRONMENT, "PATH": path})
    attempt.audited().harmless(0)


@traced
@pytest.mark.parametrize(
    "path", ["/sbin/ldconfig", "@/sbin/ldconfig", "/usr/sbin/ldconfig", "/sbin//./ldconfig"]
)
def test_an_ldconfig_is_the_hosts(hostile: Victim, path: str) -> None:
    """A09 image-ldconfig-config: CVE-2024-0136; a path is one of the host's, with `@` and without."""
    with_programs(hostile)
    hostile.traced()
    hostile.attack(*Victim.FULL, "--ldconfig-path", path).audited(ldconfig=True).harmless(0)


@traced
@pytest.mark.parametrize("path", ["sbin/ldconfig", "../sbin/ldconfig", "", "@", "@sbin/ldconfig", "/a/../sbin/ldconfig", "/s\n"])  # fmt: skip
def test_an_ldconfig_that_has_no_absolute_path(hostile: Victim, path: str) -> None:
    """A09 image-ldconfig-config: refused before anything is looked at."""
    with_programs(hostile)
    hostile.traced()
    attempt = hostile.attack(*Victim.FULL, "--ldconfig-path", path).audited().harmless(2)
    assert attempt.before == attempt.after


@traced
@pytest.mark.parametrize(
    "kind", ["dynamic", "script", "of the image", "another's", "in another's", "missing"]
)
def test_an_ldconfig_that_would_need_the_image(hostile: Victim, kind: str) -> None:
    """A09 image-ldconfig-config: one that loads a libc, or a shell, would take the image's."""
    path = hostile.bundle / "ldconfig"
    match kind:
        case "dynamic":
            shutil.copy("/bin/true", path)
        case "script":
            path.write_text(f"#!/bin/sh\necho run > {hostile.canary}/file\n")
        case "of the image":
            with_programs(hostile)
            path = hostile.root / "sbin/ldconfig"
        case "another's":
            shutil.copy("/sbin/ldconfig", path)
            os.chown(path, 1000, 1000)
        case "in another's":
            path = hostile.canary.parent / "bin" / "ldconfig"
            path.parent.mkdir(mode=0o755)
            os.chown(path.parent, 1000, 1000)
            shutil.copy("/sbin/ldconfig", path)
    if path.exists():
        path.chmod(0o755)
    hostile.traced()
    attempt = hostile.attack(*Victim.FULL, "--ldconfig-path", str(path))
    others = "another's" in kind
    attempt.audited().harmless(1 if others else 0)
    expected = "changed by others" if others else "no static ldconfig on the host"
    assert expected in attempt.said


@pytest.mark.parametrize("name", ["libc.so.6", "libm.so.6", "libexpat.so.1", "libz.so.1", "ld-linux-x86-64.so.2"])  # fmt: skip
def test_libraries_of_the_image(hostile: Victim, compiled: Callable[..., Path], name: str) -> None:
    """A02 env-ldaudit-libpath, the files of it: none is loaded by whatever reads the image."""
    evil = compiled(
        f"evil-{hostile.folder.name}",
        '#include <fcntl.h>\n__attribute__((constructor)) void run(void) { open("'
        + str(hostile.canary / "PWN")
        + '", O_CREAT | O_WRONLY, 0644); }',
        "-shared",
        "-fPIC",
    )
    for folder in ("lib", f"lib/{TRIPLET}", "lib64", "usr/lib", "."):
        place = hostile.root / folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(evil, place)
    hostile.attack(*Victim.FULL).harmless(0)
    hostile.attack(*Victim.FULL, "--ldconfig-path", "/sbin/ldconfig").harmless(0)


@traced
def test_one_run_with_everything_audited(hostile: Victim) -> None:
    """O-EXEC, O-OPEN and O-RO together, on an image that is not even hostile."""
    hostile.all_but_the_root_read_only()
    hostile.trace = hostile.root / "trace"
    hostile.traced()
    attempt = hostile.attack(*Victim.FULL).audited().harmless(0, also="trace")
    assert attempt.said == ""
    assert (hostile.root / "etc/ld.so.cache").exists()
