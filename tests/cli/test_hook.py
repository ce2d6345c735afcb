# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen hook install``: what it installs runs, and what others could change is refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import cdi_gen as package
from cdi_gen.cdi.wire import load
from cdi_gen.programs import install
from tests.cli.program import CHECKOUT, cdi_gen, failure
from tests.fakehost import hosts
from tests.fakehost.driver_packages import DriverRootUnavailableError

HOOK = "/usr/local/libexec/cdi-gen/cdi-gen-hook"
SYSTEM_PYTHON = "/usr/bin/python3"

pytestmark = pytest.mark.skipif(
    not os.path.exists(SYSTEM_PYTHON), reason="needs the distribution's Python"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A build root with the hook in it, made under a umask that hides everything."""
    root = tmp_path / "root"
    root.mkdir()
    found = cdi_gen("hook", "install", "--root", str(root), umask=0o077)
    assert (found.code, found.out) == (0, "")
    assert found.err == f"cdi-gen: installed {HOOK}; specs generated from now on contain the hook\n"
    return root


def test_it_runs_isolated_and_alone(installed: Path, tmp_path: Path) -> None:
    """Nothing of the environment, of this directory or of site-packages gets into it."""
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    found = subprocess.run(
        [installed / HOOK[1:], "--version"],
        env={"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "json.py")},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (0, f"cdi-gen-hook {package.__version__}\n")
    assert (installed / HOOK[1:]).read_text().startswith(f"#!{SYSTEM_PYTHON} -IS\n")


def test_everything_is_readable_whatever_the_umask(installed: Path) -> None:
    for path in installed.rglob("*"):
        mode = path.stat().st_mode & 0o777
        executable = path.is_dir() or path.name in install.PROGRAMS
        assert mode == (0o755 if executable else 0o644), path


def test_every_module_is_there_and_compiled(installed: Path) -> None:
    target = (installed / HOOK[1:]).parent
    modules = {path.relative_to(CHECKOUT / "hooks") for path in (CHECKOUT / "hooks").rglob("*.py")}
    assert {path.relative_to(target) for path in target.rglob("*.py")} == modules
    compiled = {
        path.parent.parent.relative_to(target) / f"{path.name.partition('.')[0]}.py"
        for path in target.rglob("__pycache__/*.pyc")
    }
    assert compiled == modules


def test_no_file_names_the_build_root(installed: Path) -> None:
    for path in installed.rglob("*"):
        assert path.is_dir() or str(installed).encode() not in path.read_bytes(), path


def test_a_second_installation_replaces_the_first(installed: Path) -> None:
    before = {path: path.stat().st_ino for path in installed.rglob("*.py")}
    (installed / HOOK[1:]).write_text("broken")
    assert cdi_gen("hook", "install", "--root", str(installed)).code == 0
    assert all(path.stat().st_ino != inode for path, inode in before.items())
    assert not list(installed.rglob("*.tmp"))
    subprocess.run([installed / HOOK[1:], "--version"], check=True, capture_output=True)


def test_another_prefix(tmp_path: Path) -> None:
    assert cdi_gen("hook", "install", "--root", str(tmp_path), "--prefix", "/usr").code == 0
    assert (tmp_path / "usr/libexec/cdi-gen/cdi-gen-hook").is_file()


def test_what_can_not_be_installed(tmp_path: Path) -> None:
    said = failure(cdi_gen("hook", "install", "--python", "/nowhere/python3"), 1)
    assert "/nowhere/python3: no such program" in said
    (tmp_path / "usr").write_text("a file")
    said = failure(cdi_gen("hook", "install", "--root", str(tmp_path)), 1)
    assert "Not a directory" in said
    assert "root" not in said.replace(str(tmp_path), ""), "that would be of no help here"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host with the hook, and with an interpreter for it; no test leaves a change there."""
    try:
        root = hosts.build("550-1gpu", tmp_path_factory.mktemp("host") / "550-1gpu").root
    except DriverRootUnavailableError as error:
        pytest.skip(f"no fake host: {error}")
    assert cdi_gen("hook", "install", "--root", str(root)).code == 0
    python = root / SYSTEM_PYTHON[1:]
    if not python.exists():
        python.write_text("")
        python.chmod(0o755)
    return root


@pytest.mark.host
@pytest.mark.skipif(os.geteuid() != 0, reason="a fake host needs root")
class TestOnAHost:
    """The hook in a fake host; ``generate`` names it, or refuses to."""

    def test_a_spec_names_it(self, root: Path) -> None:
        found = cdi_gen("generate", "--host-root", str(root), "--nvidia-cdi-hook-path", HOOK)
        assert found.code == 0, found.err
        (hook,) = load(found.out).container_edits.hooks
        assert hook.path == HOOK
        assert cdi_gen("generate", "--host-root", str(root)).out == found.out

    @pytest.mark.parametrize(
        "path",
        [
            HOOK,
            os.path.dirname(HOOK) + "/cdi_hook",
            os.path.dirname(HOOK) + "/cdi_base/process.py",
            os.path.dirname(HOOK) + "/cdi_hook/arguments.py",
            os.path.dirname(HOOK),
            "/usr/local/libexec",
            SYSTEM_PYTHON,
        ],
    )
    @pytest.mark.parametrize("change", ["group", "others", "owner"])
    def test_what_others_could_change_is_refused(
        self, root: Path, tmp_path: Path, path: str, change: str
    ) -> None:
        """A10 hook-path-trust."""
        place = root / path[1:]
        before = place.stat()
        output = tmp_path / "nvidia.json"
        arguments = ("generate", "--host-root", str(root), "-o", str(output))
        try:
            if change == "owner":
                os.chown(place, 65534, -1)
            else:
                place.chmod(before.st_mode | (0o020 if change == "group" else 0o002))
            said = failure(cdi_gen(*arguments, "--nvidia-cdi-hook-path", HOOK), 7)
        finally:
            os.chown(place, before.st_uid, before.st_gid)
            place.chmod(before.st_mode)
        assert path in said
        assert "--hooks=none" in said
        assert not output.exists()
        assert cdi_gen(*arguments, "--hooks=none").code == 0

    def test_a_hook_that_is_not_there_is_refused(self, root: Path) -> None:
        flags = ("--host-root", str(root), "--nvidia-cdi-hook-path", "/opt/hook")
        assert "/opt/hook" in failure(cdi_gen("generate", *flags), 7)


class TestInPlaceOfThePeers:
    """``--nvidia-cdi-hook``: the name that dockerd looks for, and that nvidia-ctk's specs have."""

    def test_it_is_linked_and_runs_under_that_name(self, tmp_path: Path) -> None:
        found = cdi_gen("hook", "install", "--nvidia-cdi-hook", "--root", str(tmp_path))
        assert (found.code, found.out) == (0, "")
        assert found.err.endswith("cdi-gen: linked /usr/local/bin/nvidia-cdi-hook\n")
        said = subprocess.run(
            [tmp_path / "usr/local/bin/nvidia-cdi-hook", "no-such-hook", "--flag"],
            input="", capture_output=True, text=True, check=False, timeout=20, env={},
        )  # fmt: skip
        assert (said.returncode, said.stdout) == (0, "")
        assert said.stderr == "cdi-gen-hook: 'no-such-hook': unknown hook: left out [CDG-K001]\n"

    def test_twice(self, tmp_path: Path) -> None:
        for _ in range(2):
            assert (
                cdi_gen("hook", "install", "--nvidia-cdi-hook", "--root", str(tmp_path)).code == 0
            )

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_nvidias_own_is_not_replaced(self, tmp_path: Path, kind: str) -> None:
        theirs = tmp_path / "usr/bin/nvidia-cdi-hook"
        theirs.parent.mkdir(parents=True)
        if kind == "file":
            theirs.write_text("NVIDIA's")
        else:
            theirs.symlink_to("/opt/nvidia-cdi-hook")
        flags = ("--nvidia-cdi-hook", "--prefix", "/usr", "--root", str(tmp_path))
        said = failure(cdi_gen("hook", "install", *flags), 1)
        assert "/usr/bin/nvidia-cdi-hook exists and does not belong to cdi-gen" in said
        assert os.path.lexists(theirs)
        assert not theirs.is_symlink() or os.readlink(theirs) == "/opt/nvidia-cdi-hook"


class TestRun:
    """``cdi-gen hook run``: a container's hooks on a directory, for a person."""

    @pytest.fixture
    def rootfs(self, tmp_path: Path) -> Path:
        """A root file system with one library of a driver."""
        root = tmp_path / "rootfs"
        for name in ("etc", "opt/nvidia"):
            (root / name).mkdir(parents=True)
        (root / "opt/nvidia/libcuda.so.550.1").write_bytes(b"")
        return root

    @pytest.fixture
    def specs(self, tmp_path: Path) -> Path:
        """A spec directory with one spec, whose hook is that of this checkout."""
        hook = {
            "hookName": "createContainer",
            "path": str(CHECKOUT / "hooks/cdi-gen-hook"),
            "args": [
                *("cdi-gen-hook", "create-container"),
                *("--link", "libcuda.so.550.1::/opt/nvidia/libcuda.so.1"),
                *("--link", "libcuda.so.1::/opt/nvidia/libcuda.so"),
            ],
            "env": ["PATH=/usr/bin"],
        }
        own = {"env": ["A=1"]}
        spec = {
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu",
            "devices": [{"name": name, "containerEdits": own} for name in ("0", "all")],
            "containerEdits": {"hooks": [hook]},
        }
        directory = tmp_path / "cdi"
        directory.mkdir()
        (directory / "nvidia.json").write_text(json.dumps(spec))
        return directory

    def test_a_dry_run_prints_what_the_run_then_does(self, rootfs: Path, specs: Path) -> None:
        found = cdi_gen("hook", "run", "--spec-dir", str(specs), "--dry-run", str(rootfs))
        assert (found.code, found.err) == (0, "")
        assert found.out == (
            "link /opt/nvidia/libcuda.so.1 to libcuda.so.550.1\n"
            "link /opt/nvidia/libcuda.so to libcuda.so.1\n"
        )
        assert [path.name for path in (rootfs / "opt/nvidia").iterdir()] == ["libcuda.so.550.1"]
        found = cdi_gen("hook", "run", "--spec-dir", str(specs), str(rootfs))
        assert (found.code, found.out, found.err) == (0, "", "")
        assert os.readlink(rootfs / "opt/nvidia/libcuda.so") == "libcuda.so.1"
        again = cdi_gen("hook", "run", "--spec-dir", str(specs), "-n", str(rootfs))
        assert (again.code, again.out) == (0, "")

    def test_two_devices_of_one_spec_run_its_hook_once(self, rootfs: Path, specs: Path) -> None:
        devices = ("--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=all")
        found = cdi_gen("hook", "run", *devices, "--spec-dir", str(specs), "-n", str(rootfs))
        assert found.out.count("libcuda.so.550.1") == 1

    def test_words_of_ones_own(self, rootfs: Path) -> None:
        words = ("create-symlinks", "--link", "x::/opt/y")
        found = cdi_gen("hook", "run", "-n", str(rootfs), "--", *words)
        assert (found.code, found.out) == (0, "link /opt/y to x\n")

    def test_a_hook_that_fails_is_an_error(self, rootfs: Path) -> None:
        found = cdi_gen("hook", "run", str(rootfs), "--", "create-symlinks", "--link", "nonsense")
        assert found.code == 1
        assert found.err.splitlines()[-1].endswith(
            "create-symlinks ended with exit code 2 [CDG-P007]"
        )

    def test_the_hosts_own_root_is_refused(self) -> None:
        found = cdi_gen("hook", "run", "/", "--", "create-symlinks", "--link", "x::/opt/y")
        assert found.code == 1
        assert "the container's root is the host's root: refused" in found.err

    def test_a_program_without_a_dry_run_is_not_run(self, rootfs: Path, specs: Path) -> None:
        text = (specs / "nvidia.json").read_text().replace(str(CHECKOUT / "hooks"), "/bin/sh-")
        (specs / "nvidia.json").write_text(text.replace("/bin/sh-/cdi-gen-hook", "/bin/true"))
        found = cdi_gen("hook", "run", "--spec-dir", str(specs), "-n", str(rootfs))
        assert (found.code, found.out) == (0, "")
        assert "/bin/true has no dry run" in found.err

    @pytest.mark.parametrize(("options", "code"), [(["-n"], 0), ([], 1)])
    def test_a_path_that_no_program_can_have(
        self, rootfs: Path, specs: Path, options: list[str], code: int
    ) -> None:
        text = (specs / "nvidia.json").read_text().replace("hooks/cdi-gen-hook", "x\\u0000y")
        (specs / "nvidia.json").write_text(text)
        result = cdi_gen("hook", "run", "--spec-dir", str(specs), *options, str(rootfs))
        assert result.code == code
        assert "Traceback" not in result.err
        assert "x\\x00y" in result.err

    def test_a_device_that_no_spec_defines(self, rootfs: Path, specs: Path) -> None:
        flags = ("--spec-dir", str(specs), "--device", "nvidia.com/gpu=7")
        said = failure(cdi_gen("hook", "run", *flags, str(rootfs)), 1)
        assert "defines nvidia.com/gpu=7" in said

    def test_no_root_file_system(self, tmp_path: Path) -> None:
        failure(cdi_gen("hook", "run", str(tmp_path / "nowhere")), 2)
