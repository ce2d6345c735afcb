# SPDX-License-Identifier: Apache-2.0
"""Commands that people ran, and files that they gave to commands: each from a public report or script, which it names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import (
    CHECKOUT,
    ENVIRONMENT,
    INVENTORY,
    PATIENCE,
    PROGRAM,
    SPEC,
    cdi_gen,
    failure,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PROGRAM_DIRECTORY = sys.prefix

OUTPUT_HINT = "leave out --output to write to standard output"


class TestOutputToStandardOutput:
    """`nvidia-ctk cdi generate --output=/dev/stdout` of public scripts, and rizsotto/Bear#525.

    /dev/stdout is a link to /proc/self/fd/1, which is a link to the file that the shell opened.
    Before, the command replaced the machine's /dev/stdout by the spec, and the shell's file stayed
    empty.
    """

    @pytest.fixture(autouse=True)
    def links(self, tmp_path: Path) -> None:
        """Make the links of /dev in a directory that may be harmed."""
        (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
        (tmp_path / "other").symlink_to(tmp_path / "stdout")
        (tmp_path / "relative").symlink_to("stdout")
        (tmp_path / "fd").symlink_to("/proc/self/fd")

    @staticmethod
    def run(shell: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", f'"$@" {shell}', "sh", *PROGRAM, *words],
            check=False,
            capture_output=True,
            cwd=CHECKOUT,
            env=ENVIRONMENT,
            text=True,
            timeout=PATIENCE,
        )

    @pytest.mark.parametrize(
        ("name", "shell"),
        [
            ("stdout", "> {}"),
            ("stdout", ">> {}"),
            ("stdout", "| cat > {}"),
            ("stdout", ">&-"),
            ("other", "> {}"),
            ("relative", "> {}"),
            ("fd/1", "> {}"),
            ("fd/1", ">&-"),
        ],
    )
    def test_link_is_kept_and_the_error_says_what_to_do(
        self, tmp_path: Path, name: str, shell: str
    ) -> None:
        link = tmp_path / name
        links = ("stdout", "other", "relative", "fd")
        before = [os.readlink(tmp_path / path) for path in links]
        file = tmp_path / "file"
        words = ("generate", "--inventory", INVENTORY, "-o", str(link))
        process = self.run(shell.format(file), *words)
        assert [os.readlink(tmp_path / path) for path in links] == before
        assert "|" in shell or process.returncode == 1
        assert f"cdi-gen: error: cannot write {link}: " in process.stderr
        assert shell == ">&-" or f"  hint: {OUTPUT_HINT}\n" in process.stderr
        assert not file.exists() or file.read_text() == ""

    def test_no_other_command_replaces_the_link(self, tmp_path: Path) -> None:
        words = ("runtime", "prepare", "--inventory", INVENTORY, "-o", str(tmp_path / "stdout"))
        assert self.run(f"> {tmp_path}/file", *words).returncode == 1
        assert (tmp_path / "stdout").is_symlink()

    def test_without_output_the_spec_is_on_standard_output(self, tmp_path: Path) -> None:
        file = tmp_path / "nvidia.json"
        assert self.run(f"> {file}", "generate", "--inventory", INVENTORY).returncode == 0
        assert file.read_text() == SPEC


UTF_8_HINT = "save the file as UTF-8 without a byte order mark"

KATA_AFTER_K3S = b"""\
[plugins.cri.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[[plugins]]
  [[plugins.cri]]
   [[plugins.cri.containerd]]
     [plugins.cri.containerd.runtimes.kata]
        runtime_type = "io.containerd.kata.v2"
"""

UNREADABLE = {
    # moby/moby#44777: Notepad's UTF-8, which dockerd takes from version 23.0 on.
    "docker, UTF-8 with a byte order mark": (
        "docker",
        b'\xef\xbb\xbf{"runtimes": {}}\r\n',
        "line 1: a byte order mark",
        UTF_8_HINT,
    ),
    # moby/moby#44832: PowerShell's UTF-16.
    "docker, UTF-16": (
        "docker",
        '\ufeff{"runtimes": {}}\r\n'.encode("utf-16-le"),
        "not UTF-8 text (byte 0)",
        UTF_8_HINT,
    ),
    # containerd/containerd#4381: `containerd config default > config.toml` in PowerShell.
    "containerd, UTF-16": (
        "containerd",
        "\ufeffversion = 2\r\n".encode("utf-16-le"),
        "not UTF-8 text (byte 0)",
        UTF_8_HINT,
    ),
    "containerd, UTF-8 with a byte order mark": (
        "containerd",
        b"\xef\xbb\xbfversion = 2\r\n",
        "line 1: a byte order mark",
        UTF_8_HINT,
    ),
    # kata-containers/packaging#802: tables of arrays, appended to the tables of k3s.
    "containerd, a table and an array of one name": (
        "containerd",
        KATA_AFTER_K3S,
        'Key "plugins" already exists. at line 8',
        "correct the file, and run the command again",
    ),
    # NVIDIA/gpu-operator#143: containerd cannot load a text as a version either.
    "containerd, a version in quotes": (
        "containerd",
        b'version = "2"\n',
        "version = '2' is not a version of the file",
        None,
    ),
    # NVIDIA/nvidia-docker#542: a brace too many, merged by hand.
    "docker, the rest after the end": (
        "docker",
        b'{\n    "insecure-registries" : [ "10.142.55.199:5006"] },\n    "graph": "/data"\n}\n',
        "line 2, column 54: text after the end of the object",
        "correct the file, and run the command again",
    ),
    # NVIDIA/nvidia-docker#1420: no comma before what the manual says to add.
    "docker, no comma": (
        "docker",
        b'{\n    "dns" : ["172.17.0.1"]\n    "runtimes": {}\n}\n',
        "line 3, column 5: ",
        "correct the file, and run the command again",
    ),
}


@pytest.mark.parametrize(
    ("engine", "content", "reason", "hint"), UNREADABLE.values(), ids=UNREADABLE
)
def test_configuration_that_is_not_read_is_unchanged_and_the_error_says_what_to_do(
    tmp_path: Path, engine: str, content: bytes, reason: str, hint: str | None
) -> None:
    path = tmp_path / "configuration"
    path.write_bytes(content)
    error = failure(cdi_gen("engine", "configure", engine, "--config", str(path)), 1)
    assert error.startswith(f"cdi-gen: error: {path}: {reason}")
    assert hint is None or error.endswith(f"  hint: {hint}\n")
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [path.name]


def test_config_toml_of_windows_is_named_for_what_it_is(tmp_path: Path) -> None:
    """herdrdev/herdr#1162, containerd/containerd#4381: the first key seemed to be missing."""
    path = tmp_path / "config.toml"
    path.write_text('\ufeff[host]\r\ndriver-root = "/run/nvidia/driver"\r\n')
    result = cdi_gen("generate", env={"CDI_GEN_CONFIG": str(path)})
    assert "line 1: a byte order mark" in result.err


@needs_root
def test_program_below_a_directory_of_the_group_staff_is_refused_with_a_remedy(
    tmp_path: Path,
) -> None:
    """turnkeylinux/tracker#1440, 1667-ai/1667#46: Debian's /usr/local, root:staff with mode 2775."""
    directory = tmp_path / "local/bin"
    directory.mkdir(parents=True)
    program = directory / "nvidia-container-runtime"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (directory.parent, directory):
        os.chown(path, 0, 50)
        path.chmod(0o2775)
    configuration = tmp_path / "daemon.json"
    words = ("engine", "configure", "docker", "--config", str(configuration))
    error = failure(cdi_gen(*words, "--runtime-path", str(program)), 7)
    assert f"{directory.parent} can be written to by others (mode 2775) [CDG-E008]\n" in error
    assert "only root may be able to change the program and the directories above it" in error
    assert not configuration.exists()
    for path in (directory.parent, directory):
        path.chmod(0o755)
    assert cdi_gen(*words, "--runtime-path", str(program)).code == 0


def test_nightly_docker_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    """docker/docs#7090, docker/docker-ce-packaging#250: the version of all nightly builds is 0.0.0.

    Before, CDI was not switched on, because Docker 0.0.0 was said to be too old.
    """
    program = tmp_path / "bin/dockerd"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\necho Docker version 0.0.0-20240915002115-e2b5ab5d3c, build e2b5ab5d3c\n"
    )
    program.chmod(0o755)
    env = {"PATH": f"{program.parent}:{ENVIRONMENT['PATH']}"}
    configuration = tmp_path / "daemon.json"
    result = cdi_gen("engine", "configure", "docker", "--config", str(configuration), env=env)
    assert result.code == 0
    assert "does not support CDI" not in result.err
    assert json.loads(configuration.read_text()) == {"features": {"cdi": True}}


@needs_root
@pytest.mark.parametrize(
    ("mode", "code"), [("755", 0), ("1777", 0), ("777", 7)], ids=["0755", "1777", "0777"]
)
def test_spec_on_a_machine_whose_root_directory_others_can_write_to(
    tmp_path: Path, mode: str, code: int
) -> None:
    """NixOS/nix#13701, NixOS/nixpkgs#482057: `/` is a tmpfs without a mode, and nobody looks there."""
    root = tmp_path / "root"
    root.mkdir()
    script = f"""
        mount -t tmpfs -o mode={mode} none {root}
        for name in bin lib lib64 sbin usr proc dev; do
            if [ -L /$name ]; then cp -P /$name {root}/; continue; fi
            [ -d /$name ] || continue
            mkdir {root}/$name; mount --rbind /$name {root}/$name
        done
        mkdir -p {root}/etc {root}{CHECKOUT}; mount --bind {CHECKOUT} {root}{CHECKOUT}
        mkdir -p {root}{PROGRAM_DIRECTORY}; mount --bind {PROGRAM_DIRECTORY} {root}{PROGRAM_DIRECTORY}
        cd {CHECKOUT}; exec chroot {root} /bin/sh -c 'cd {CHECKOUT}; exec "$@"' sh "$@"
    """
    words = (*PROGRAM, "generate", "--inventory", INVENTORY, "-o", "/etc/cdi/nvidia.json")
    sources = ":".join(f"{CHECKOUT}{below}" for below in ("", "/specs", "/hooks"))
    process = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script, "sh", *words],
        check=False,
        capture_output=True,
        env=ENVIRONMENT | {"PYTHONPATH": sources},
        text=True,
        timeout=PATIENCE,
    )
    assert process.returncode == code, process
    if code:
        assert (
            "not writing to /etc/cdi: / can be written to by others (mode 0777)" in process.stderr
        )


def test_null_in_daemon_json_is_an_absent_object(tmp_path: Path) -> None:
    """NVIDIA/nvidia-container-toolkit#2109: `{"runtimes":null}`, at which nvidia-ctk panics.

    dockerd takes it. Before, the error was that runtimes is not an object.
    """
    path = tmp_path / "daemon.json"
    before = '{"runtimes":null,"log-driver":"json-file","features": null}\n'
    path.write_text(before)
    words = ("docker", "--config", str(path))
    assert cdi_gen("engine", "configure", *words, "--cdi", "--runtime").code == 0
    assert json.loads(path.read_text()) == {
        "runtimes": {"nvidia": {"path": "/usr/bin/nvidia-container-runtime", "args": []}},
        "log-driver": "json-file",
        "features": {"cdi": True},
    }
    assert "nothing to change" in cdi_gen("engine", "configure", *words, "--cdi", "--runtime").err
    assert cdi_gen("engine", "unconfigure", *words).code == 0
    assert path.read_text() == before
    path.write_text('{"runtimes": []}')
    error = failure(cdi_gen("engine", "configure", *words, "--runtime"), 1)
    assert "runtimes is not an object" in error
