# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen engine list | configure | unconfigure``, as a person sees them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.engines.text import toml_text
from tests.cli.program import CHECKOUT, ENVIRONMENT, Result, cdi_gen, failure

SHIM = "/usr/bin/nvidia-container-runtime"

Programs = Callable[..., dict[str, str]]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Put programs on PATH: by name, what they print, or a whole script."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def put(**scripts: str) -> dict[str, str]:
        for name, script in scripts.items():
            path = folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        return {"PATH": f"{folder}:{ENVIRONMENT['PATH']}"}

    return put


@pytest.fixture
def daemon_json(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "daemon.json"
    path.parent.mkdir()
    path.write_text('{"debug": true}\n')
    return path


def configure(engine: str, path: Path, *options: str, **how: Any) -> Result:
    return cdi_gen("engine", "configure", engine, "--config", str(path), *options, **how)


def unconfigure(engine: str, path: Path, *options: str, **how: Any) -> Result:
    return cdi_gen("engine", "unconfigure", engine, "--config", str(path), *options, **how)


def test_configure_and_back(daemon_json: Path, programs: Programs) -> None:
    env = programs(dockerd="echo Docker version 27.5.1, build x")
    backup = Path(f"{daemon_json}.cdi-gen.bak")
    found = configure("docker", daemon_json, env=env)
    assert (found.code, found.out) == (0, "")
    assert daemon_json.read_text() == '{"debug": true, "features": {"cdi": true}}\n'
    assert backup.read_text() == '{"debug": true}\n'
    assert f"changed {daemon_json}; original: {backup}" in found.err
    assert "docker reads the file when it starts: systemctl restart docker" in found.err
    before = daemon_json.stat()
    again = configure("docker", daemon_json, env=env)
    assert again.code == 0
    assert "docker: nothing to change" in again.err
    now = daemon_json.stat()
    assert (now.st_ino, now.st_ctime_ns) == (before.st_ino, before.st_ctime_ns), "written again"
    back = unconfigure("docker", daemon_json, env=env)
    assert back.code == 0
    assert daemon_json.read_text() == '{"debug": true}\n'
    last = Path(f"{daemon_json}.cdi-gen.last.bak")
    assert last.read_text() == '{"debug": true, "features": {"cdi": true}}\n'
    assert f"changed {daemon_json}; backup: {last}" in back.err
    assert sorted(os.listdir(daemon_json.parent)) == ["daemon.json", last.name]
    assert "nothing to change" in unconfigure("docker", daemon_json, env=env).err


def test_dry_run_is_a_difference(daemon_json: Path, programs: Programs) -> None:
    env = programs(dockerd="echo Docker version 27.5.1, build x")
    found = configure("docker", daemon_json, "--dry-run", env=env)
    assert found.code == 5
    assert found.out == (
        f"--- {daemon_json}\n+++ {daemon_json} (new)\n@@ -1 +1 @@\n"
        '-{"debug": true}\n+{"debug": true, "features": {"cdi": true}}\n'
    )
    assert "dry run, nothing written" in found.err
    assert os.listdir(daemon_json.parent) == ["daemon.json"]
    configure("docker", daemon_json, env=env)
    found = configure("docker", daemon_json, "--dry-run", env=env)
    assert (found.code, found.out) == (0, "")
    assert unconfigure("docker", daemon_json, "--dry-run", env=env).code == 5


def test_a_difference_of_files_that_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    found = configure("docker", path, "--dry-run")
    assert found.out.startswith(f"--- /dev/null\n+++ {path} (new)\n")
    assert configure("docker", path).code == 0
    found = unconfigure("docker", path, "--dry-run")
    assert found.out.startswith(f"--- {path}\n+++ /dev/null\n")
    assert unconfigure("docker", path).code == 0
    assert os.listdir(tmp_path) == ["daemon.json.cdi-gen.last.bak"]


@pytest.mark.parametrize(
    ("options", "path", "default"),
    [
        (("--runtime",), SHIM, None),
        (("--set-as-default",), SHIM, "nvidia"),
        (("--runtime-path", "/opt/shim"), "/opt/shim", None),
        (("--nvidia-runtime-path", "/opt/shim", "--nvidia-set-as-default"), "/opt/shim", "nvidia"),
        (("--no-runtime",), None, None),
        ((), None, None),
    ],
)
def test_the_runtime(
    daemon_json: Path, options: tuple[str, ...], path: str | None, default: str | None
) -> None:
    found = configure("docker", daemon_json, "--no-cdi", *options)
    assert found.code == 0
    said = json.loads(daemon_json.read_text())
    assert said.get("runtimes") == ({"nvidia": {"path": path, "args": []}} if path else None)
    assert said.get("default-runtime") == default
    assert "features" not in said
    assert not path or f"{path} does not exist yet" in found.err


@needs_root
def test_the_shim_that_is_installed_is_found(daemon_json: Path, programs: Programs) -> None:
    """By the name that it has on this machine, in the directories of a daemon."""
    script = f"""
        mount -t tmpfs none /usr/local/bin
        printf '' > /usr/local/bin/nvidia-container-runtime
        chmod 755 /usr/local/bin/nvidia-container-runtime
        exec "$@" engine configure docker --runtime --config {daemon_json}"""
    import subprocess
    import sys

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, "sh", sys.executable, "-m", "cdi_gen"],
        cwd=CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    said = json.loads(daemon_json.read_text())
    assert said["runtimes"]["nvidia"]["path"] == "/usr/local/bin/nvidia-container-runtime"
    assert "does not exist" not in done.stderr


def test_another_name(daemon_json: Path) -> None:
    assert configure("docker", daemon_json, "--runtime", "--runtime-name", "gpu").code == 0
    assert [*json.loads(daemon_json.read_text())["runtimes"]] == ["gpu"]
    assert unconfigure("docker", daemon_json, "--runtime-name", "gpu").code == 0
    assert daemon_json.read_text() == '{"debug": true}\n'


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("docker", "--runtime-name", "runc"), "is invalid or reserved"),
        (("docker", "--runtime-name", "a\nb"), "is invalid or reserved"),
        (
            ("docker", "--no-runtime", "--set-as-default"),
            "--no-runtime conflicts with --runtime-path and --set-as-default",
        ),
        (("docker", "--drop-in", "/x"), "--drop-in is not supported for docker"),
        (("docker", "--oci-hook"), "--oci-hook is not supported for docker"),
        (("containerd", "--drop-in", "/x.conf"), "imports only *.toml"),
        (("podman", "--drop-in", "/x.toml"), "reads only *.conf"),
        (("podman", "--config", "/x"), "--config is not supported for podman"),
        (("nerdctl", "--runtime"), "accepts a runtime only by its path"),
        (("crio", "--rootless"), "--rootless"),
        (
            ("docker", "--executable-path", "/usr/bin/env"),
            "--executable-path is not supported for docker",
        ),
        (("docker", "--config", "relative.json"), "not an absolute path"),
        (("lxc",), "'lxc' is not one of"),
    ],
)
def test_what_makes_no_sense(arguments: tuple[str, ...], told: str) -> None:
    assert told in failure(cdi_gen("engine", "configure", *arguments), 2)


@needs_root
def test_root_has_no_engine_of_its_own() -> None:
    found = cdi_gen("engine", "configure", "docker", "--rootless")
    assert "run the command as the user of the engine, not as root" in failure(found, 2)


@pytest.fixture
def home() -> Iterator[Path]:
    """The home of user 1234, who can reach it."""
    path = Path(tempfile.mkdtemp(prefix="home-", dir="/tmp"))
    os.chown(path, 1234, 1234)
    yield path
    shutil.rmtree(path)


@needs_root
def test_rootless(home: Path) -> None:
    (home / "bin").mkdir()
    for name, says in (("dockerd", "Docker version 27.5.1"), ("podman", "podman version 5.8.6")):
        (home / "bin" / name).write_text(f"#!/bin/sh\necho {says}\n")
        (home / "bin" / name).chmod(0o755)
    env = {"PATH": f"{home}/bin:/usr/bin:/bin"}
    env |= {"HOME": str(home), "XDG_RUNTIME_DIR": "/run/user/1234"}
    how: dict[str, Any] = {"env": env, "user": 1234, "group": 1234, "extra_groups": ()}
    found = cdi_gen("engine", "configure", "docker", "--rootless", **how)
    assert found.code == 0, found
    path = home / ".config/docker/daemon.json"
    assert json.loads(path.read_text()) == {
        "features": {"cdi": True},
        "cdi-spec-dirs": [
            "/etc/cdi", "/var/run/cdi", f"{home}/.config/cdi", "/run/user/1234/cdi",
        ],
    }  # fmt: skip
    assert path.stat().st_uid == 1234
    assert "systemctl --user restart docker" in found.err
    assert cdi_gen("engine", "configure", "podman", "--rootless", **how).code == 0
    drop_in = home / ".config/containers/containers.conf.d/99-nvidia.conf"
    assert "/run/user/1234/cdi" in drop_in.read_text()
    listed = json.loads(cdi_gen("engine", "list", "--json", **how).out)
    rootless = {each["engine"]: each["specDirectories"] for each in listed if each["rootless"]}
    assert set(rootless) == {"docker", "podman"}
    assert all("/run/user/1234/cdi" in each for each in rootless.values())
    for engine in ("docker", "podman"):
        assert cdi_gen("engine", "unconfigure", engine, "--rootless", **how).code == 0
    assert not path.exists()
    assert not drop_in.exists()


@pytest.mark.parametrize("character", ["\\u0000", "\\ud800", "\\udcff", "\\n"])
def test_a_runtime_path_that_no_launcher_can_have(
    daemon_json: Path, programs: Programs, character: str
) -> None:
    env = programs(dockerd="echo Docker version 27.5.1, build x")
    text = f'{{"default-runtime": "mine", "runtimes": {{"mine": {{"path": "/x{character}y"}}}}}}'
    daemon_json.write_text(text)
    result = configure("docker", daemon_json, "--runtime-path", "/usr/bin/cdi-gen-runtime", env=env)
    assert "has a character that no launcher can have" in failure(result, 1)
    assert daemon_json.read_text() == text


@pytest.mark.parametrize("command", [configure, unconfigure])
def test_an_import_of_a_name_that_no_file_can_have(
    tmp_path: Path, command: Callable[..., Result]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text('version = 2\nimports = ["/x\\u0000y"]\n')
    assert "/x\\x00y: no file can have this name" in failure(command("containerd", path), 1)


def test_containerd(tmp_path: Path, programs: Programs) -> None:
    env = programs(containerd='echo "containerd github.com/containerd/containerd 1.7.24 x"')
    path = tmp_path / "config.toml"
    path.write_text("version = 2 # two\n")
    one = ("--executable-path", str(tmp_path / "bin/containerd"))  # whatever runs on this machine
    found = configure("containerd", path, *one, env=env)
    assert found.code == 0, found
    assert toml_text.parse(path.read_text())["imports"] == [f"{tmp_path}/conf.d/*.toml"]
    assert "# two" in path.read_text()
    drop_in = tmp_path / "conf.d/99-nvidia.toml"
    assert toml_text.parse(drop_in.read_text())["plugins"]["io.containerd.grpc.v1.cri"] == {
        "enable_cdi": True
    }
    assert stat.S_IMODE(drop_in.stat().st_mode) == 0o644
    assert "systemctl restart containerd" in found.err
    assert "nothing to change" in configure("containerd", path, *one, env=env).err
    assert unconfigure("containerd", path, env=env).code == 0
    assert path.read_text() == "version = 2 # two\n"
    backups = [f"{name}.cdi-gen.last.bak" for name in ("conf.d.99-nvidia.toml", "config.toml")]
    assert sorted(os.listdir(tmp_path)) == sorted(["bin", "conf.d", "config.toml", *backups])
    assert os.listdir(tmp_path / "conf.d") == []


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_what_is_to_be_written_by_hand_is_printed(
    tmp_path: Path, programs: Programs, dry: tuple[str, ...]
) -> None:
    """k3s generates its configuration at each start: the text for its template is printed."""
    programs(containerd='echo "containerd github.com/containerd/containerd/v2 v2.0.4 x"')
    path = tmp_path / "k3s/agent/etc/containerd/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("version = 3\n")
    options = ("--executable-path", str(tmp_path / "bin/containerd"), *dry)
    done = configure("containerd", path, *options, "--runtime")
    assert done.code == 1, done
    said = toml_text.parse(done.out)["plugins"]["io.containerd.cri.v1.runtime"]
    assert said["containerd"]["runtimes"]["nvidia"]["options"] == {"BinaryName": SHIM}
    assert "is generated at every start: cdi-gen does not change it" in done.err
    assert f"add the printed text to {path.parent}/config-v3.toml.tmpl" in done.err
    assert os.listdir(path.parent) == ["config.toml"]
    nothing = configure("containerd", path, *options)
    assert (nothing.code, nothing.out) == (0, "")
    assert "CDI devices need no change in the file" in nothing.err


@needs_root
def test_a_program_that_others_can_change_is_not_asked_for_its_version(
    tmp_path: Path, programs: Programs
) -> None:
    programs(containerd="touch $0.ran; echo 2.0.4")
    program = tmp_path / "bin/containerd"
    os.chown(program, 1000, 1000)
    path = tmp_path / "config.toml"
    told = failure(configure("containerd", path, "--executable-path", str(program)), 7)
    assert "is not safe for an engine to run" in told
    assert not Path(f"{program}.ran").exists()


def test_nothing_but_ours_lies_in_a_drop_in_directory(tmp_path: Path) -> None:
    """CRI-O reads every file there, whatever its name: a backup would count, and after ours."""
    path = tmp_path / "crio.conf"
    drop_in = tmp_path / "crio.conf.d" / "99-nvidia.toml"
    drop_in.parent.mkdir()
    drop_in.write_text("# theirs\n[crio.runtime]\n")
    assert configure("crio", path, "--runtime").code == 0
    assert os.listdir(drop_in.parent) == [drop_in.name]
    assert drop_in.read_text().startswith("# theirs\n[crio.runtime]\n")
    assert (tmp_path / "crio.conf.d.99-nvidia.toml.cdi-gen.bak").exists()
    assert unconfigure("crio", path).code == 0
    assert drop_in.read_text() == "# theirs\n[crio.runtime]\n"
    assert sorted(os.listdir(tmp_path)) == [
        "crio.conf.d", "crio.conf.d.99-nvidia.toml.cdi-gen.last.bak",
    ]  # fmt: skip
    assert os.listdir(drop_in.parent) == [drop_in.name]


def test_an_engine_that_needs_nothing(tmp_path: Path, programs: Programs) -> None:
    env = programs(podman="echo podman version 5.8.6")
    drop_in = tmp_path / "99-nvidia.conf"
    found = cdi_gen("engine", "configure", "podman", "--drop-in", str(drop_in), env=env)
    assert found.code == 0
    assert "podman enables CDI by default" in found.err
    assert "podman: nothing to change" in found.err
    assert not drop_in.exists()


LIST = {
    "dockerd": "echo Docker version 26.1.5+dfsg1, build a72d7cd",
    "docker": "exit 1",
    "containerd": 'test "$1" = --version && echo "containerd containerd 2.1.4 x"',
    "podman": "echo podman version 5.5.1",
    "crio": "echo crio version 1.30.1",
}


def test_list(programs: Programs) -> None:
    found = cdi_gen("engine", "list", env=programs(**LIST))
    assert found.code == 0
    lines = [line.split("  ") for line in found.out.splitlines()]
    assert lines[0][0] == "ENGINE"
    rows = {line.split()[0]: line.split() for line in found.out.splitlines()[1:]}
    mode = "rootful" if os.geteuid() == 0 else "rootless"
    assert rows["docker"][:6] == [
        "docker",
        "26.1.5",
        "rootful",
        "off",
        "0.7.0",
        "/etc/cdi:/var/run/cdi",
    ]
    assert rows["podman"] == ["podman", "5.5.1", mode, "on", "1.0.0", "/etc/cdi", "-"]
    assert rows["containerd"][3] == "on"
    assert rows["crio"][4] == "0.7.0"
    assert "podman reads specs only in /etc/cdi" in found.err


def test_list_for_programs(programs: Programs) -> None:
    found = cdi_gen("engine", "list", "--json", env=programs(**LIST))
    assert (found.code, found.err) == (0, "")
    docker = next(each for each in json.loads(found.out) if each["engine"] == "docker")
    assert docker["program"].endswith("/bin/dockerd")
    assert {key: docker[key] for key in ("version", "cdi", "newestCdiVersion", "rootless")} == {
        "version": "26.1.5",
        "cdi": "off",
        "newestCdiVersion": "0.7.0",
        "rootless": False,
    }
    assert docker["specDirectories"] == ["/etc/cdi", "/var/run/cdi"]
    assert docker["source"] == "default"


def test_a_daemon_that_hangs_does_not_hang_the_list(programs: Programs) -> None:
    env = programs(**LIST | {"docker": "sleep 1000", "containerd": "sleep 1000 & sleep 1000"})
    begin = time.monotonic()
    found = cdi_gen("engine", "list", "--json", env=env)
    assert found.code == 0
    assert time.monotonic() - begin < 25
    engines = {each["engine"]: each for each in json.loads(found.out)}
    assert engines["docker"]["version"] == "26.1.5"
    assert engines["containerd"]["version"] is None
    assert engines["containerd"]["cdi"] == "unknown"


def test_programs_that_print_nonsense(programs: Programs) -> None:
    env = programs(**dict.fromkeys(LIST, "head -c 100000 /dev/urandom"))
    found = cdi_gen("engine", "list", "--json", env=env)
    assert found.code == 0, found
    assert cdi_gen("engine", "list", env=env).code == 0


def test_an_engine_that_is_not_named() -> None:
    ended = cdi_gen("engine", "configure")
    assert (ended.code, ended.out) == (2, "")
    assert "'ENGINE'. Choose from: docker, containerd, crio" in ended.err
