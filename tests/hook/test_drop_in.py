# SPDX-License-Identifier: Apache-2.0
"""The hook under the name of nvidia-cdi-hook: the same command lines and the same results."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hook.conftest import HOOK, Container, Library, fingerprint
from tests.hook.runtimes import Runtime, hook_of, start
from tests.hook.test_cuda_compat import COMPAT, DROP_IN, NOTE, Compat, compat

__all__ = ["compat"]

REFERENCE = Path(__file__).resolve().parents[1] / "parity/reference/nvidia_ctk"
"""Specs that nvidia-ctk wrote."""

ITS_ENVIRONMENT = {"NVIDIA_CTK_DEBUG": "false"}
"""The environment that specs of nvidia-ctk give to hooks."""

PROFILE = "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"


@pytest.fixture
def drop_in(container: Container) -> Container:
    """A container whose hook has the name of NVIDIA's hook."""
    name = container.bundle / "bin/nvidia-cdi-hook"
    name.parent.mkdir()
    name.symlink_to(HOOK)
    container.launcher = [str(name)]
    return container


def test_command_lines_of_nvidia_ctk(drop_in: Container, library: Library) -> None:
    """The command lines of specs of nvidia-ctk 1.20, one process for each step."""
    library(drop_in.root / "opt/odd/libcuda.so.550.163.01", "libcuda.so.1")
    os.mknod(drop_in.root / "dev/nvidia0", stat.S_IFCHR | 0o666, os.makedev(195, 0))
    (drop_in.root / "dev/dri").mkdir(mode=0o700)
    for line in (
        "create-symlinks --link libcuda.so.1::/opt/odd/libcuda.so --link libcuda.so.550.163.01::/opt/odd/libcuda.so.1",
        "create-symlinks --link ../libnvidia-allocator.so.1::/usr/lib/gbm/nvidia-drm_gbm.so",
        "enable-cuda-compat --host-driver-version=550.163.01",
        "enable-cuda-compat --host-driver-version=550.163.01 --host-cuda-version=12.4 --cuda-compat-container-root=/opt/compat",
        "update-ldcache --folder /opt/odd",
        "update-ldcache --folder /opt/odd --folder /usr/lib --ldconfig-path @/sbin/ldconfig",
        "disable-device-node-modification",
        "update-application-profile",
        "chmod --mode 755 --path /dev/dri",
    ):
        ended = drop_in.hook(*line.split(), environment=ITS_ENVIRONMENT)
        assert (ended.status, ended.said) == (0, ""), line
    assert os.readlink(drop_in.root / "opt/odd/libcuda.so") == "libcuda.so.1"
    # Unlike in create-container, whether or not the target is there.
    assert (drop_in.root / "usr/lib/gbm/nvidia-drm_gbm.so").is_symlink()
    assert drop_in.cached()["libcuda.so.1"] == "/opt/odd/libcuda.so.1"
    assert (drop_in.root / PROFILE).exists()
    assert stat.S_IMODE((drop_in.root / "dev/dri").stat().st_mode) == 0o755
    drop_in.assert_host_untouched()


def test_hooks_of_nvidia_ctks_specs(drop_in: Container) -> None:
    """Every hook of every spec runs in its environment, on a root with the files of the spec."""
    commands: dict[tuple[str, ...], dict[str, str]] = {}
    for file in sorted(REFERENCE.glob("*.json")):
        spec = json.loads(file.read_text())
        all_edits = [spec["containerEdits"], *(each["containerEdits"] for each in spec["devices"])]
        for edits in all_edits:
            for mount in edits.get("mounts", []):
                drop_in.write(mount["containerPath"])
            for hook in edits.get("hooks", []):
                environment = dict(each.split("=") for each in hook["env"])
                commands[tuple(hook["args"][1:])] = environment
    assert {command[0] for command in commands} == {
        "apply-cuda-memory-limits",
        "create-symlinks",
        "enable-cuda-compat",
        "update-ldcache",
        "disable-device-node-modification",
        "update-application-profile",
    }
    for command, environment in commands.items():
        ended = drop_in.hook(*command, environment=environment)
        assert (ended.status, ended.said) == (0, ""), command
        for word in command:
            text, is_link, path = word.partition("::")
            if is_link:
                assert os.readlink(drop_in.root / path[1:]) == text
    assert (drop_in.root / "etc/ld.so.cache").exists()


@pytest.mark.parametrize("words", [(), ("enable-everything",), ("enable-everything", "--x", "y")])
def test_an_unknown_hook_name_is_ignored(drop_in: Container, words: tuple[str, ...]) -> None:
    """A spec of a newer nvidia-ctk, with a hook that we do not have, must not stop a container."""
    before = fingerprint(drop_in.root)
    ended = drop_in.hook(*words, environment=ITS_ENVIRONMENT)
    assert (ended.status, ended.said.count("\n")) == (0, 1)
    assert fingerprint(drop_in.root) == before


@pytest.mark.parametrize(
    "line",
    [
        "create-symlinks --nope",
        "create-symlinks stray",
        "create-symlinks --link a",
        "enable-cuda-compat --folder /x",
        "update-ldcache --link a::/b",
        "disable-device-node-modification --path /x",
        "update-application-profile --update-application-profile",
        "chmod --path /dev/dri",
    ],
)
def test_unknown_option_is_rejected(drop_in: Container, line: str) -> None:
    ended = drop_in.hook(*line.split(), environment=ITS_ENVIRONMENT)
    assert (ended.status, ended.said.count("\n")) == (2, 1)


class TestEnvironment:
    """nvidia-ctk before 1.17.8 wrote specs without `env`."""

    COMMAND = ("create-symlinks", "--link", "x::/opt/x")

    @pytest.mark.parametrize(
        "more",
        [
            {"HOME": "/root", "USER": "root", "SHELL": "/bin/sh", "XDG_RUNTIME_DIR": "/run/user/0"},
            {"NOTIFY_SOCKET": "/run/x", "_CONTAINERS_ROOTLESS_UID": "0", "TERM": "xterm"},
            {"NVIDIA_VISIBLE_DEVICES": "all", "LDFLAGS": "-s", "BASH_FUNC_x%%": "() { :; }"},
        ],
    )
    def test_environment_of_the_runtime_is_accepted(
        self, drop_in: Container, more: dict[str, str]
    ) -> None:
        ended = drop_in.hook(*self.COMMAND, environment={"PATH": "/usr/bin:/bin", **more})
        assert (ended.status, ended.said) == (0, "")
        assert (drop_in.root / "opt/x").is_symlink()

    @pytest.mark.parametrize(
        "name",
        ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GCONV_PATH", "LOCPATH", "GLIBC_TUNABLES", "MALLOC_CHECK_",
         "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"],
    )  # fmt: skip
    def test_variables_of_the_loader_are_refused(self, drop_in: Container, name: str) -> None:
        """CVE-2025-23266: the variable is of the image, and its code has run already."""
        ended = drop_in.hook(*self.COMMAND, environment={"PATH": "/usr/bin", name: ""})
        assert (ended.status, ended.said.count("\n")) == (1, 1)
        assert f"'{name}' in the environment" in ended.said
        assert not (drop_in.root / "opt/x").is_symlink()

    @pytest.mark.engine
    @pytest.mark.parametrize(("variable", "starts"), [("HARMLESS=1", True), ("LD_BIND_NOW=1", False)])  # fmt: skip
    def test_in_a_container(
        self, runtime: Runtime, drop_in: Container, bundle: Container, variable: str, starts: bool
    ) -> None:
        """Without `env`, runc before 1.3 passes the image's environment, crun the engine's."""
        entry = hook_of(drop_in, *self.COMMAND)
        del entry["env"]
        spec = bundle.spec
        spec["hooks"] = {"createContainer": [entry]}
        spec["process"]["env"] = ["PATH=/bin", variable]
        ended = start(
            runtime, bundle, "env", "-i", "HOME=/root", f"PATH={os.environ['PATH']}", variable
        )
        assert (ended.returncode == 0) is starts, ended.stderr
        assert (bundle.root / "opt/x").is_symlink() is starts


class TestTalk:
    COMMAND = ("create-symlinks", "--link", "x::/opt/x")
    SAID = "cdi-gen-hook: link /opt/x to x\n"

    @pytest.mark.parametrize(
        "words",
        [("--debug", *COMMAND), ("-d", *COMMAND), (COMMAND[0], "--debug", *COMMAND[1:]), (*COMMAND, "--debug")],
    )  # fmt: skip
    def test_debug_prints_the_changes(self, container: Container, words: tuple[str, ...]) -> None:
        ended = container.hook(*words)
        assert (ended.status, ended.said) == (0, self.SAID)
        ended = container.hook(*words)
        assert (ended.status, ended.said) == (0, "")

    @pytest.mark.parametrize("name", ["NVIDIA_CTK_DEBUG", "NVIDIA_CDI_DEBUG"])
    @pytest.mark.parametrize(
        ("value", "said"), [("true", SAID), ("1", SAID), ("false", ""), ("0", ""), ("", "")]
    )
    def test_by_the_environment(self, drop_in: Container, name: str, value: str, said: str) -> None:
        ended = drop_in.hook(*self.COMMAND, environment={name: value})
        assert (ended.status, ended.said) == (0, said)

    @pytest.mark.parametrize("how", ["--quiet", "NVIDIA_CTK_QUIET", "NVIDIA_CDI_QUIET"])
    def test_quiet_wins(self, drop_in: Container, how: str) -> None:
        words = [how] if how == "--quiet" else []
        environment = {} if words else {how: "true"}
        ended = drop_in.hook(*words, "--debug", *self.COMMAND, environment=environment)
        assert (ended.status, ended.said) == (0, "")

    def test_all_steps(self, container: Container, compat: Compat, library: Library) -> None:
        compat(note=NOTE)
        library(container.root / "opt/odd/libcuda.so.550.1", "libcuda.so.1")
        os.mknod(container.root / "dev/nvidia0", stat.S_IFCHR | 0o666, os.makedev(195, 0))
        (container.root / "dev/dri").mkdir(mode=0o700)
        ended = container.hook(
            "--debug", "create-container",
            "--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1", "--link", "absent::/opt/odd/y",
            "--host-driver-version=550.1", "--folder=/opt/odd",
            "--update-application-profile", "--mode=755", "--path=/dev/dri",
        )  # fmt: skip
        assert ended.status == 0
        assert ended.said.replace("cdi-gen-hook: ", "").splitlines() == [
            "link /opt/odd/libcuda.so.1 to libcuda.so.550.1",
            f"write /{DROP_IN}",
            "write /etc/ld.so.conf",
            "write /etc/ld.so.conf.d/00-cdi-gen.conf",
            "write /etc/ld.so.cache",
            f"write /{PROFILE}",
            "chmod 755 /dev/dri",
        ]


def test_two_processes_work_together(drop_in: Container, library: Library, compat: Compat) -> None:
    """The second process sees the changes of the first one; both run again for another driver."""
    library(drop_in.root / "opt/odd/libcuda.so.1", "libcuda.so.1")
    compat("libcuda.so.575.57.08", NOTE)
    (drop_in.root / COMPAT[1:] / "libcuda.so.1").symlink_to("libcuda.so.575.57.08")
    for version, found in (
        ("550.163.01", f"{COMPAT}/libcuda.so.1"),
        ("580.1", "/opt/odd/libcuda.so.1"),
    ):
        for command in (
            f"enable-cuda-compat --host-driver-version={version}",
            "update-ldcache --folder /opt/odd",
        ):
            ended = drop_in.hook(*command.split(), environment=ITS_ENVIRONMENT)
            assert (ended.status, ended.said) == (0, "")
        assert drop_in.cached()["libcuda.so.1"] == found


class TestBesideNvidiasHook:
    """Both programs change the same root in the same way."""

    @pytest.fixture
    def nvidia_hook(self, nvidia_program: Callable[[str], Path]) -> str:
        return str(nvidia_program("nvidia-cdi-hook"))

    @pytest.fixture
    def twin(self, tmp_path: Path) -> Container:
        return Container(tmp_path / "twin")

    @staticmethod
    def compare(nvidia_hook: str, ours: Container, theirs: Container, *commands: str) -> None:
        for command in commands:
            for container, launcher in ((ours, ours.launcher), (theirs, [nvidia_hook])):
                container.launcher = launcher
                ended = container.hook(*command.split(), environment=ITS_ENVIRONMENT)
                assert ended.status == 0, (launcher, ended)
        assert left(ours.root) == left(theirs.root)

    @pytest.mark.parametrize(
        "command",
        [
            "--link a::/opt/x --link ../b::/usr/lib/new/y --link /c::/opt/x --link a::/opt/x",
            "--link odd/z::/opt/link/x --link x::/opt/file --link x::/opt/same",
            "--link x::/opt/nowhere --link x::/opt/elsewhere",
        ],
    )
    def test_create_symlinks(
        self, nvidia_hook: str, drop_in: Container, twin: Container, command: str
    ) -> None:
        for container in (drop_in, twin):
            (container.root / "opt/link").symlink_to("/opt/odd")
            (container.root / "opt/file").write_text("x")
            (container.root / "opt/same").symlink_to("x")
            (container.root / "opt/nowhere").symlink_to("/nowhere")
            (container.root / "opt/elsewhere").symlink_to("/etc/passwd")
        self.compare(nvidia_hook, drop_in, twin, f"create-symlinks {command}")

    @pytest.mark.parametrize("note", [NOTE, None, "no JSON", {**NOTE, "driver": [535]}])
    @pytest.mark.parametrize(
        "words",
        ["--host-driver-version=550.163.01", "--host-driver-version=575.51.03", "--host-driver-version=575.64.1",
         "--host-driver-version=545.1.2", "--host-cuda-version=12.4", "--host-cuda-version=12.10",
         "--host-driver-version=rolling --host-cuda-version=12.4"],
    )  # fmt: skip
    def test_enable_cuda_compat(
        self,
        nvidia_hook: str,
        drop_in: Container,
        twin: Container,
        compat: Compat,
        note: object,
        words: str,
    ) -> None:
        """With both versions, NVIDIA's hook uses no library without a note; no spec has both."""
        compat(note=note)
        shutil.copytree(drop_in.root / "usr/local", twin.root / "usr/local")
        self.compare(nvidia_hook, drop_in, twin, f"enable-cuda-compat {words}")

    @pytest.mark.parametrize("minors", [(), (0,), (1, 3, 63), (2, 64)])
    def test_update_application_profile(
        self, nvidia_hook: str, drop_in: Container, twin: Container, minors: tuple[int, ...]
    ) -> None:
        for root in (drop_in.root, twin.root):
            for minor in minors:
                os.mknod(root / f"dev/nvidia{minor}", stat.S_IFCHR | 0o666, os.makedev(195, minor))
            os.mknod(root / "dev/nvidiactl", stat.S_IFCHR | 0o666, os.makedev(195, 255))
        self.compare(nvidia_hook, drop_in, twin, "update-application-profile")

    def test_chmod(self, nvidia_hook: str, drop_in: Container, twin: Container) -> None:
        for root in (drop_in.root, twin.root):
            (root / "dev/dri").mkdir(mode=0o700)
            (root / "dev/nvidia-caps").mkdir(mode=0o755)
        command = "chmod --mode 750 --path /dev/dri --path /dev/none --path /dev/nvidia-caps"
        self.compare(nvidia_hook, drop_in, twin, command)

    def test_help_of_nvidias_hook_has_the_same_options(self, nvidia_hook: str) -> None:
        output = subprocess.run(
            [nvidia_hook, "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert set(re.findall(r"^ {3}([a-z][a-z-]+)[ ,]", output, re.MULTILINE)) - {"help"} <= {
            "create-symlinks", "enable-cuda-compat", "update-ldcache", "disable-device-node-modification",
            "update-application-profile", "chmod", "apply-cuda-memory-limits",
        }  # fmt: skip


def left(root: Path) -> dict[str, tuple[str, ...]]:
    """A tree as a container sees it; both names of the drop-in are replaced by one.

    An intended difference: the profile of NVIDIA's hook is a read-only file without a newline.
    """
    tree: dict[str, tuple[str, ...]] = {}
    for path in sorted(root.rglob("*")):
        name = re.sub(
            r"00-(compat-[0-9a-f-]+|cdi-gen-compat)\.conf$",
            "00-compat.conf",
            str(path.relative_to(root)),
        )
        status = path.lstat()
        if path.is_symlink():
            tree[name] = ("link", os.readlink(path))
        elif path.is_file():
            tree[name] = ("file", path.read_text(errors="replace").rstrip("\n"))
        elif not name.startswith("etc/nvidia"):
            tree[name] = (stat.filemode(status.st_mode),)
    return tree
