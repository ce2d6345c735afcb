# SPDX-License-Identifier: Apache-2.0
"""The bundle: hook, shim and prestart hook with their own interpreter, for hosts without Python."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from cdi_base import HOOK, PRESTART_HOOK, RUNTIME, VERSION
from cdi_gen.host import hook_program
from cdi_gen.host.roots import Root
from tests.hook.conftest import ENVIRONMENT
from tests.host.looking import REPOSITORY
from tests.lab import debian
from tests.lab.cache import LabUnavailableError, cached
from tools.bundle import contents, cpython, interpreter

pytestmark = pytest.mark.network

PROGRAMS = {
    "cdi-gen-hook": f"cdi-gen-hook {VERSION}\n",
    "nvidia-cdi-hook": f"cdi-gen-hook {VERSION}\n",
    "cdi-gen-runtime": f"cdi-gen-runtime version {VERSION}\n",
    "cdi-gen-runtime-hook": f"cdi-gen-runtime-hook version {VERSION}\n",
    "nvidia-container-runtime": f"cdi-gen-runtime version {VERSION}\n",
    "nvidia-container-runtime-hook": f"cdi-gen-runtime-hook version {VERSION}\n",
    "nvidia-container-runtime.cdi": f"cdi-gen-runtime version {VERSION}\n",
    "nvidia-container-runtime.legacy": f"cdi-gen-runtime version {VERSION}\n",
}
"""The first line of what each program prints as its version."""

HOSTILE = "import os; os.close(os.open({sentinel!r}, os.O_CREAT)); raise SystemExit(3)\n"
"""A module that shows that it ran."""


@pytest.fixture(scope="session")
def bundle(bundle_of: Callable[[str], Path]) -> Path:
    return bundle_of(platform.machine())


@pytest.fixture
def installed(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, which a test may change."""
    target = tmp_path / "installed" / "cdi-gen"
    shutil.copytree(bundle, target, symlinks=True)
    return target


def unpack_qemu(directory: Path) -> None:
    debian.unpack(["qemu-user-static"], directory)


@pytest.fixture(scope="session")
def qemu() -> str:
    """Debian's emulator of aarch64, without which the programs are started on an aarch64 host."""
    if platform.machine() == "aarch64":
        return "/usr/bin/env"
    try:
        directory = cached("qemu-user-static", "1", unpack_qemu)
    except LabUnavailableError as error:
        pytest.skip(f"no qemu-user-static: {error}")
    return str(directory / "qemu-user-static/usr/bin/qemu-aarch64-static")


def run(
    *command: str | Path,
    env: dict[str, str] = ENVIRONMENT,
    cwd: str | Path = "/",
    stdin: str = "",
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a program of the bundle, with the environment that specs give hooks."""
    return subprocess.run(
        [*map(str, command)],
        env=env, cwd=cwd, input=stdin, timeout=timeout, capture_output=True, text=True, check=False,
    )  # fmt: skip


class TestContents:
    def test_every_program_is_a_link_to_the_interpreter(self, bundle: Path) -> None:
        assert {path.name for path in (bundle / "bin").iterdir()} == {*PROGRAMS}
        links = {os.readlink(path) for path in (bundle / "bin").iterdir()}
        assert links == {"../python/cdi-gen-python"}

    def test_nothing_else_can_be_started_or_changed_by_others(self, bundle: Path) -> None:
        modes = {
            path.relative_to(bundle).as_posix(): path.lstat().st_mode
            for path in bundle.rglob("*")
            if not path.is_symlink()
        }
        startable = {name for name, mode in modes.items() if stat.S_ISREG(mode) and mode & 0o111}
        assert startable == {"python/cdi-gen-python"}
        assert not {name for name, mode in modes.items() if mode & 0o6022}

    def test_the_interpreter_needs_no_loader_and_no_library(self, bundle: Path) -> None:
        with (bundle / "python/cdi-gen-python").open("rb") as file:
            elf = ELFFile(file)
            kinds = {segment["p_type"] for segment in elf.iter_segments()}
            assert "PT_INTERP" not in kinds
            assert "PT_GNU_RELRO" in kinds
            assert elf["e_type"] == "ET_DYN"  # it can be loaded at any address
        with (bundle / "python/cdi-gen-python").open("rb") as file:
            assert (
                b"NEEDED"
                not in subprocess.run(
                    ["readelf", "-d", "/proc/self/fd/0"],
                    stdin=file,
                    check=True,
                    capture_output=True,
                ).stdout
            )

    def test_it_has_the_license_of_everything_in_it(self, bundle: Path) -> None:
        names = {path.name for path in (bundle / "python/licenses").iterdir()}
        assert names == {"CPython", "cdi-gen", "libffi", "musl"}

    def test_it_has_no_path_of_the_machine_that_built_it(self, bundle: Path) -> None:
        home = os.fsencode(Path.home() / ".cache")
        for path in bundle.rglob("*"):
            if path.is_file():
                assert home not in path.read_bytes(), path
                assert os.fsencode(REPOSITORY) not in path.read_bytes(), path


class TestPrograms:
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_it_starts(self, bundle: Path, name: str) -> None:
        ended = run(bundle / "bin" / name, "--version")
        assert ended.stdout.startswith(PROGRAMS[name])

    def test_a_link_with_another_name_starts_the_program_that_it_leads_to(
        self, bundle: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "toolkit").symlink_to(bundle)
        (tmp_path / "gpu-hook").symlink_to("toolkit/bin/cdi-gen-runtime-hook")
        ended = run("./gpu-hook", "--version", cwd=tmp_path)
        assert ended.stdout == PROGRAMS["cdi-gen-runtime-hook"]

    def test_it_is_no_interpreter_for_others(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "python3").symlink_to(bundle / "python/cdi-gen-python")
        ended = run(tmp_path / "python3", "-c", "print('hello')")
        assert ended.returncode == 126
        assert ended.stdout == ""
        assert ended.stderr == (
            f"cdi-gen: {tmp_path}/python3: not the name of a program of this bundle\n"
        )

    def test_it_works_in_another_directory_that_is_read_only(self, installed: Path) -> None:
        moved = installed.with_name("elsewhere")
        installed.rename(moved)
        script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && "$1/bin/cdi-gen-hook" --version'
        ended = run("unshare", "-m", "sh", "-ec", script, "sh", moved)
        assert ended.stdout == PROGRAMS["cdi-gen-hook"], ended.stderr

    def test_a_start_writes_nothing(self, installed: Path) -> None:
        before = {path: path.lstat().st_mtime_ns for path in installed.rglob("*")}
        for name in PROGRAMS:
            run(installed / "bin" / name, "--version")
        assert before == {path: path.lstat().st_mtime_ns for path in installed.rglob("*")}

    def test_no_module_is_compiled_when_a_container_starts(self, bundle: Path) -> None:
        for module in (bundle / "python").rglob("*.py"):
            compiled = f"__pycache__/{module.stem}.cpython-313.pyc"
            assert (module.parent / compiled).is_file(), module

    def test_json_that_is_not_valid_is_an_error_of_the_input(self, bundle: Path) -> None:
        """`_json` imports `json.decoder` to raise its error."""
        ended = run(bundle / "bin/cdi-gen-hook", "chmod", "--path=/x", "--mode=755", stdin="{")
        assert ended.returncode == 1
        assert "internal error" not in ended.stderr
        assert "CDG-K002" in ended.stderr or "JSON" in ended.stderr, ended.stderr


class TestIsolation:
    """Nothing but the bundle decides what runs, whatever the environment and the directory have."""

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Path:
        """A directory with modules under the names that a start imports."""
        directory = tmp_path / "hostile"
        (directory / "encodings").mkdir(parents=True)
        text = HOSTILE.format(sentinel=str(tmp_path / "sentinel"))
        names = ("os", "struct", "site", "sitecustomize", "usercustomize", "encodings/__init__")
        for name in (*names, "encodings/utf_8", "cdi_base", "cdi_runtime", "json"):
            (directory / f"{name}.py").write_text(text)
        (directory / "pyvenv.cfg").write_text(f"home = {directory}\n")
        (directory / "x.pth").write_text(text)
        return directory

    def environment(self, hostile: Path) -> dict[str, str]:
        directory = str(hostile)
        return {
            "PATH": f"{directory}:/usr/bin:/bin",
            "HOME": directory,
            "PYTHONPATH": directory,
            "PYTHONHOME": directory,
            "PYTHONSTARTUP": f"{directory}/os.py",
            "PYTHONUSERBASE": directory,
            "PYTHONPLATLIBDIR": directory,
            "PYTHONPYCACHEPREFIX": directory,
            "LD_PRELOAD": f"{directory}/x.so",
        }

    def test_the_environment_and_the_directory_are_not_searched(
        self, bundle: Path, hostile: Path, tmp_path: Path
    ) -> None:
        ended = run(
            bundle / "bin/nvidia-container-runtime-hook",
            "-version",
            env=self.environment(hostile),
            cwd=hostile,
        )
        assert ended.stdout == PROGRAMS["nvidia-container-runtime-hook"], ended.stderr
        assert not (tmp_path / "sentinel").exists()

    def test_an_interpreter_that_is_not_isolated_runs_them(
        self, hostile: Path, tmp_path: Path
    ) -> None:
        """The control: with the same environment, the host's Python runs a hostile module."""
        run("/usr/bin/python3", "-c", "", env=self.environment(hostile), cwd=hostile)
        assert (tmp_path / "sentinel").exists()

    def test_a_time_zone_of_the_image_blocks_no_hook(self, bundle: Path, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        environment = {**ENVIRONMENT, "TZ": f":{pipe}"}
        ended = run(bundle / "bin/cdi-gen-hook", "--version", env=environment)
        assert ended.stdout == PROGRAMS["cdi-gen-hook"]


@pytest.mark.parametrize(
    "name", ["cdi-gen-python", "cdi-gen-hook", "cdi_base/__pycache__/errors.cpython-313.pyc"]
)
def test_specs_do_not_name_a_bundle_that_others_can_change(installed: Path, name: str) -> None:
    path = str(installed / "bin/cdi-gen-hook")
    trusted = hook_program.find(Root(), path)
    assert trusted is not None
    assert trusted.unsafe is None
    (installed / "python" / name).chmod(0o777)
    changeable = hook_program.find(Root(), path)
    assert changeable is not None
    assert "can be written to by others (mode 0777)" in str(changeable.unsafe)


def test_containers_start_during_upgrades(installed: Path, tmp_path: Path) -> None:
    """`toolkit` leads to one of two installations; an installation itself does not change."""
    other = installed.with_name("other")
    shutil.copytree(installed, other, symlinks=True)
    link = tmp_path / "toolkit"
    link.symlink_to(installed)
    ended = threading.Event()

    def upgrade() -> None:
        for number in range(10**9):
            if ended.is_set():
                return
            new = tmp_path / "new"
            new.symlink_to((installed, other)[number % 2])
            new.rename(link)

    thread = threading.Thread(target=upgrade)
    thread.start()
    try:
        starts = [
            (name, run(link / "bin" / name, "--version", env=ENVIRONMENT | {"PATH": ""}))
            for name in (HOOK, RUNTIME, PRESTART_HOOK) * 20
        ]
    finally:
        ended.set()
        thread.join()
    assert [start for name, start in starts if not start.stdout.startswith(PROGRAMS[name])] == []


HOOK_TESTS = ("test_process.py", "test_symlinks.py", "test_chmod.py", "test_device_nodes.py")


@pytest.mark.parametrize("modules", [pytest.param(HOOK_TESTS, id="some"), pytest.param((), id="all", marks=pytest.mark.nightly)])  # fmt: skip
def test_the_hook_passes_its_own_tests(bundle: Path, modules: tuple[str, ...]) -> None:
    """tests/hook, with the hook of the bundle in place of the one in hooks/."""
    passed = run_hook_tests(str(bundle / "bin/cdi-gen-hook"), modules)
    assert passed >= (1600 if not modules else 200)


@pytest.mark.nightly
class TestAarch64:
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_it_starts(self, bundle_of: Callable[[str], Path], qemu: str, name: str) -> None:
        ended = run(qemu, bundle_of("aarch64") / "bin" / name, "--version")
        assert ended.stdout.startswith(PROGRAMS[name]), ended.stderr

    def test_the_hook_passes_its_own_tests(
        self, bundle_of: Callable[[str], Path], qemu: str
    ) -> None:
        """The tests that need no libraries of the machine's own architecture.

        qemu has no mount_setattr(2), by which the hook writes into a read-only container.
        """
        hook = bundle_of("aarch64") / "bin/cdi-gen-hook"
        modules = ("test_symlinks.py", "test_chmod.py", "test_process.py")
        other = ("-k", "not test_a_read_only_container_gets_the_same")
        assert run_hook_tests(f"{qemu} {hook}", modules, *other) >= 150


def run_hook_tests(hook: str, modules: tuple[str, ...], *selection: str) -> int:
    """Run tests of tests/hook with another hook; return how many passed."""
    paths = [f"tests/hook/{module}" for module in modules] or ["tests/hook"]
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not host and not engine")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *selection, *paths],
        cwd=REPOSITORY,
        env={**os.environ, "CDI_GEN_HOOK": hook, "REQUIRE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-4000:]
    return int(ended.stdout.rpartition(" passed")[0].split()[-1].rpartition(",")[2])


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", cpython.ARCHITECTURES)
def test_two_builds_are_the_same(
    bundle_of: Callable[[str], Path],
    architecture: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In another cache, so in other directories: half an hour on two cores."""
    first = (bundle_of(architecture) / "python" / interpreter.PROGRAM).read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cdi-gen"
    (tmp_path / "cdi-gen").mkdir()
    (tmp_path / "cdi-gen/debian").symlink_to(cache / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = tmp_path / "second"
    directory.mkdir()
    contents.lay_out(directory, architecture)
    assert (directory / "python" / interpreter.PROGRAM).read_bytes() == first
    assert json.dumps(listing(directory)) == json.dumps(listing(bundle_of(architecture)))


def listing(directory: Path) -> dict[str, str]:
    """The content of every file, as a digest."""
    import hashlib

    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
