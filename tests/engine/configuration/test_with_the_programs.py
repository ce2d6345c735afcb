# SPDX-License-Identifier: Apache-2.0
"""What we write, read by the engines themselves: ``containerd config dump``, ``dockerd --validate``.

Neither needs a daemon, root or a kernel's favour; only the programs, from Debian's packages. Podman
is asked in the lab. And beside what nvidia-ctk writes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.engines import podman
from cdi_gen.engines.plan import Request, Runtime
from cdi_gen.engines.text import toml_text
from tests.cli.program import ENVIRONMENT, cdi_gen
from tests.lab.engines import Lab
from tests.unit.engines.machine import Told, carried_out

from .programs import dump

pytestmark = pytest.mark.engine

SUITES = ("bookworm", "trixie", "sid")
"""containerd 1.6, 1.7 and 2.1; Docker 20.10, 26.1 and 28.5."""

SHIM = "/usr/bin/nvidia-container-runtime"
V2 = "io.containerd.grpc.v1.cri"
V3 = "io.containerd.cri.v1.runtime"

CONFIGURATIONS = {
    "none": None,
    "nothing": "",
    "1": '[plugins.cri]\nsandbox_image = "pause:1"\n[plugins.cri.containerd.runtimes.runc]\n'
    'runtime_type = "io.containerd.runc.v2"\n[plugins.cri.containerd.runtimes.runc.options]\n'
    'Root = "/r"\n',
    "2": f"""\
version = 2
[plugins]
  [plugins."{V2}"]
    device_ownership_from_security_context = true
    [plugins."{V2}".containerd]
      default_runtime_name = "kata"
      [plugins."{V2}".containerd.runtimes.kata]
        runtime_type = "io.containerd.runc.v2"
        privileged_without_host_devices = true
        [plugins."{V2}".containerd.runtimes.kata.options]
          SystemdCgroup = true
""",
    "2 with imports": f"""\
version = 2
imports = ["CONF.D/*.toml"]
[plugins."{V2}".cni]
bin_dir = "/b"
""",
    "3": f"""\
version = 3
[plugins."{V3}"]
enable_cdi = false
[plugins."{V3}".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"
options = {{ BinaryName = "/usr/bin/crun" }}
""",
}


def _said(dump: Any) -> Any:
    """What a dump says, less all that is nothing: 0, "", an empty table."""
    if not isinstance(dump, dict):
        return dump
    said = {key: _said(each) for key, each in dump.items()}
    # As containerd 1.7 fills it in when it starts, and does not where a file names the runtime.
    return {key: each for key, each in said.items() if each and key != "sandbox_mode"}


def _cri(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said["plugins"][V3 if V3 in said["plugins"] else V2]
    return found


@pytest.mark.parametrize(
    ("suite", "kind"),
    [(suite, kind) for suite in SUITES for kind in CONFIGURATIONS if kind != "3" or suite == "sid"],
)
def test_containerd_reads_what_was_meant(
    program: Callable[[str, str], Path], suite: str, kind: str, tmp_path: Path
) -> None:
    containerd = program(suite, "containerd")
    env = {"PATH": f"{containerd.parent}:{ENVIRONMENT['PATH']}"}
    path = tmp_path / "config.toml"
    text = CONFIGURATIONS[kind]
    if text is not None:
        text = text.replace("CONF.D", f"{tmp_path}/conf.d")
        path.write_text(text)
    if kind == "2 with imports":
        other = tmp_path / "conf.d" / "50-other.toml"
        other.parent.mkdir()
        other.write_text(f'version = 2\n[plugins."{V2}"]\nmax_concurrent_downloads = 7\n')
    was = dump(containerd, path if path.exists() else Path("/dev/null"))
    options = ("--config", str(path), "--runtime")
    done = cdi_gen("engine", "configure", "containerd", *options, env=env)
    assert done.code == 0, done
    now = dump(containerd, path)
    runtime = _cri(now)["containerd"]["runtimes"].pop("nvidia")
    assert runtime["runtime_type"] == "io.containerd.runc.v2"
    assert runtime["options"]["BinaryName"] == SHIM
    if kind == "2":
        assert runtime["privileged_without_host_devices"] is True
        assert runtime["options"]["SystemdCgroup"] is True
    if suite != "bookworm":
        assert _cri(now)["enable_cdi"] is True
    for each in (_cri(was), _cri(now)):
        each.pop("enable_cdi", None)
    if not text:
        was["version"] = now["version"]
    assert _said(now) == _said(was), "all else is as it was, and the runtime runc is still there"
    again = cdi_gen("engine", "configure", "containerd", *options, env=env)
    assert "nothing to change" in again.err
    assert cdi_gen("engine", "unconfigure", "containerd", *options[:2], env=env).code == 0
    assert (path.read_text() if path.exists() else None) == text


@pytest.mark.parametrize("suite", ["trixie", "sid"])
@pytest.mark.parametrize(
    "text", [None, '{\n\t"log-level": "warn",\n\t"features": {"buildkit": true}\n}']
)
def test_docker_reads_what_was_meant(
    program: Callable[[str, str], Path], suite: str, text: str | None, tmp_path: Path
) -> None:
    dockerd = program(suite, "dockerd")
    env = {"PATH": f"{dockerd.parent}:{ENVIRONMENT['PATH']}"}
    path = tmp_path / "daemon.json"
    if text is not None:
        path.write_text(text)
    options = ("--config", str(path), "--set-as-default")
    assert cdi_gen("engine", "configure", "docker", *options, env=env).code == 0
    done = subprocess.run(
        [dockerd, "--validate", "--userland-proxy=false", "--config-file", path],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert "configuration OK" in done.stderr
    said = json.loads(path.read_text())
    assert ("cdi" in said.get("features", {})) == (suite == "trixie")


@pytest.mark.parametrize(("suite", "version"), [("bookworm", "4.3.1"), ("trixie", "5.4.2")])
def test_podman_reads_what_was_meant(
    lab_of: Callable[[str], Lab], suite: str, version: str
) -> None:
    wishes = Request(runtime=Runtime("nvidia", "/usr/bin/runc", default=True))
    made = carried_out(podman.plan(wishes, Told({"podman": version})), {})
    asked = "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}"
    with lab_of(suite).enter() as inside:
        assert inside.run(["podman", "--version"]).stdout == f"podman version {version}\n"
        for path, text in made.items():
            inside.write(path, text)
        found = inside.run(["podman", "info", "--format", asked]).stdout
    assert found == "nvidia /usr/bin/runc\n"


SPEC = """\
{"cdiVersion": "0.5.0", "kind": "example.com/some", "containerEdits": {},
 "devices": [{"name": "one", "containerEdits": {"env": ["SOME=1"]}}]}
"""


def test_podman_build_looks_in_both_directories_once_it_is_told(
    lab_of: Callable[[str], Lab], image_archives: dict[str, Path]
) -> None:
    """Podman 5.4: `run` does so by itself, and `build` in /etc/cdi alone."""
    (told,) = carried_out(podman.plan(Request(), Told({"podman": "5.4.2"})), {}).items()
    build = ("podman", "build", "--network=none", "--device", "example.com/some=one", "/build")
    binds = {"/image.tar": image_archives["debian"]}
    with lab_of("trixie").enter(binds=binds, cgroup="v2") as inside:
        inside.run(["podman", "load", "--quiet", "--input", "/image.tar"])
        inside.write("/build/Dockerfile", 'FROM localhost/debian\nRUN ["/probe"]\n')
        inside.write("/var/run/cdi/some.json", SPEC)
        before = inside.run(build, check=False)
        assert "unresolvable CDI devices example.com/some=one" in before.stderr
        inside.write(*told)
        assert inside.run(build, check=False).returncode == 0


@pytest.mark.parametrize("kind", ["none", "1", "2", "3"])
@pytest.mark.parametrize("default", [False, True])
def test_the_same_runtime_as_nvidia_ctk_writes(
    kind: str, default: bool, tmp_path: Path, nvidia_program: Callable[[str], Path]
) -> None:
    nvidia_ctk = str(nvidia_program("nvidia-ctk"))
    configurations = []
    for name in ("theirs", "ours"):
        path = tmp_path / name / "config.toml"
        path.parent.mkdir()
        text = CONFIGURATIONS[kind]
        if text is not None:
            path.write_text(text)
        drop_in = path.parent / "conf.d" / "99-nvidia.toml"
        if name == "theirs":
            more = ("--nvidia-set-as-default",) if default else ()
            subprocess.run(
                [nvidia_ctk, "runtime", "configure", "--runtime=containerd", f"--config={path}",
                 f"--drop-in-config={'' if kind == '1' else drop_in}", "--cdi.enabled", *more],
                check=True, capture_output=True, timeout=20,
            )  # fmt: skip
        else:
            more = ("--set-as-default",) if default else ()
            process = cdi_gen(
                "engine", "configure", "containerd", "--config", str(path), "--runtime", *more
            )
            assert process.code == 0
        changed_file = path if kind == "1" else drop_in
        configurations.append(toml_text.parse(changed_file.read_text()))
    theirs, ours = configurations
    if kind == "1":  # nvidia-ctk writes enable_cdi a table too low, where containerd ignores it
        assert theirs["plugins"]["cri"]["containerd"].pop("enable_cdi")
        assert ours["plugins"]["cri"].pop("enable_cdi")
        assert theirs.pop("version") == 1
    if kind == "none":  # nvidia-ctk removes the built-in runtime runc, see test_containerd
        assert ours["plugins"][V2]["containerd"]["runtimes"].pop("runc")
    if kind == "3":  # cdi-gen does not write values that are empty or false by default
        for runtime in theirs["plugins"][V3]["containerd"]["runtimes"].values():
            for key in ("runtime_root", "runtime_engine", "privileged_without_host_devices"):
                assert not runtime.pop(key, None)
    assert ours == theirs


@pytest.mark.parametrize("text", ["{}", '{"debug": true}', '{"default-runtime": "runc"}'])
@pytest.mark.parametrize("default", [False, True])
def test_the_same_daemon_json_as_nvidia_ctk_writes(
    text: str, default: bool, tmp_path: Path, nvidia_program: Callable[[str], Path]
) -> None:
    nvidia_ctk = str(nvidia_program("nvidia-ctk"))
    theirs, ours = tmp_path / "theirs.json", tmp_path / "ours.json"
    theirs.write_text(text)
    ours.write_text(text)
    more = ("--nvidia-set-as-default",) if default else ()
    subprocess.run(
        [nvidia_ctk, "runtime", "configure", "--runtime=docker", f"--config={theirs}",
         "--cdi.enabled", f"--nvidia-runtime-path={SHIM}", *more],
        check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    assert (
        cdi_gen("engine", "configure", "docker", "--config", str(ours), "--runtime", *more).code
        == 0
    )
    assert json.loads(ours.read_text()) == json.loads(theirs.read_text())
