# SPDX-License-Identifier: Apache-2.0
"""Which low-level runtime the shim is told of: the one that the engine would have used."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.engines import containerd, crio, docker, low_level_runtime, podman
from cdi_gen.engines.plan import Plan, Request, Runtime
from cdi_gen.engines.text import toml_text

from .machine import CONTAINERD_FILE, DOCKER_FILE, Told, carried_out, taken_back, warnings

SHIM = "/usr/bin/nvidia-container-runtime"
RUNTIME = Runtime("nvidia", SHIM)
WISHES = Request(runtime=RUNTIME)
V3 = "io.containerd.cri.v1.runtime"

CRIO_OWN = """\
[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
[crio.runtime.runtimes.runc]
runtime_path = "/usr/libexec/crio/runc"
runtime_root = "/run/runc"
"""


def launched(made: dict[str, str], engine: str) -> str | None:
    """What the launcher of an engine names; it becomes the shim."""
    text = made.get(f"/etc/cdi-gen/{engine}/nvidia-container-runtime")
    if text is None:
        return None
    lines = text.splitlines()
    assert lines[0] == "#!/bin/sh"
    assert lines[-1] == f'exec {SHIM} "$@"'
    return lines[-2].removeprefix("export CDI_GEN_LOW_LEVEL_RUNTIME=")


@pytest.mark.parametrize("usual", [{}, {"runc": "1.1.15"}, {"runc": "1", "crun": "1"}])
def test_crio_has_its_own_where_nobody_else_looks(usual: dict[str, str]) -> None:
    files = {"/etc/crio/crio.conf.d/10-crio.conf": CRIO_OWN}
    machine = Told({"crio": "1.34.0", **usual}, files)
    made = carried_out(crio.plan(WISHES, machine), files)
    assert launched(made, "crio") == "/usr/libexec/crio/crun"
    said = toml_text.parse(made["/etc/crio/crio.conf.d/99-nvidia.toml"])
    assert said["crio"]["runtime"]["runtimes"]["nvidia"] == {
        "runtime_path": "/etc/cdi-gen/crio/nvidia-container-runtime",
        "runtime_type": "oci",
        "runtime_root": "/run/crun",
        "monitor_path": "/usr/libexec/crio/conmon",
    }
    now = {**files, **made}
    again = Told({"crio": "1.34.0", **usual}, now)
    assert carried_out(crio.plan(WISHES, again), now) == {}
    back = taken_back(crio.plan(Request(revert=True), again), now, files)
    assert {path: text for path, text in back.items() if text} == files


DOCKER = {"default-runtime": "crun", "runtimes": {"crun": {"path": "/usr/bin/crun"}}}


@pytest.mark.parametrize(
    ("said", "there", "named"),
    [
        (DOCKER, ("runc", "crun"), "/usr/bin/crun"),
        (DOCKER, ("crun",), None),
        ({}, ("runc", "crun"), None),
        ({"default-runtime": "youki", "runtimes": {"youki": {"path": "youki"}}},
         ("runc", "youki"), "/usr/bin/youki"),
        ({"default-runtime": "x", "runtimes": {"x": {"runtimeType": "io.containerd.runc.v2",
          "options": {"BinaryName": "/opt/runc"}}}}, ("runc",), "/opt/runc"),
        ({"default-runtime": "x", "runtimes": {"x": {"runtimeType": "io.containerd.runsc.v1"}}},
         ("runc",), None),
        ({"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": SHIM}}}, ("runc",), None),
    ],
)  # fmt: skip
def test_dockers_default_runtime(
    said: dict[str, Any], there: tuple[str, ...], named: str | None
) -> None:
    files = {DOCKER_FILE: json.dumps(said)}
    machine = Told({"dockerd": "28.5.2", **dict.fromkeys(there, "1")}, files)
    wishes = Request(runtime=RUNTIME._replace(default=True))
    made = carried_out(docker.plan(wishes, machine), files)
    assert launched(made, "docker") == named
    path = json.loads({**files, **made}[DOCKER_FILE])["runtimes"]["nvidia"]["path"]
    assert path == (SHIM if named is None else "/etc/cdi-gen/docker/nvidia-container-runtime")
    # Ours is the default now, and the one before is known all the same.
    now = {**files, **made}
    assert carried_out(docker.plan(wishes, Told(machine.versions, now)), now) == {}


CONTAINERD = f"""\
version = 3
[plugins."{V3}".containerd]
default_runtime_name = "NAME"
[plugins."{V3}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."{V3}".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"
options = {{ binaryName = "/usr/local/bin/crun", Root = "/run/crun" }}
[plugins."{V3}".containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
options = {{ ConfigPath = "/k" }}
"""


@pytest.mark.parametrize(
    ("name", "named"), [("crun", "/usr/local/bin/crun"), ("runc", None), ("kata", None)]
)
def test_containerds_default_runtime(name: str, named: str | None) -> None:
    files = {CONTAINERD_FILE: CONTAINERD.replace("NAME", name)}
    machine = Told({"containerd": "2.1.4", "runc": "1", "crun": "1"}, files)
    made = carried_out(containerd.plan(WISHES, machine), files)
    assert launched(made, "containerd") == named
    said = toml_text.parse(made["/etc/containerd/conf.d/99-nvidia.toml"])["plugins"][V3]
    options = said["containerd"]["runtimes"]["nvidia"]["options"]
    assert options.pop("BinaryName") == (
        SHIM if named is None else "/etc/cdi-gen/containerd/nvidia-container-runtime"
    )
    assert (
        options == {"crun": {"Root": "/run/crun"}, "runc": {}, "kata": {"ConfigPath": "/k"}}[name]
    )


def test_daemons_of_one_engine_have_a_launcher_each() -> None:
    """Of a distribution's containerd and the machine's; and of two dockerds."""
    template = "/var/snap/microk8s/current/args/containerd-template.toml"
    files = {
        CONTAINERD_FILE: CONTAINERD.replace("NAME", "crun"),
        template: CONTAINERD.replace("NAME", "crun").replace(
            "/usr/local", "/snap/microk8s/current"
        ),
        DOCKER_FILE: json.dumps(DOCKER),
        "/srv/daemon.json": json.dumps(DOCKER),
    }
    own = "/snap/microk8s/current/bin/containerd"
    versions = {"containerd": "2.1.4", own: "2.1.4", "dockerd": "28.5.2", "runc": "1", "crun": "1"}
    both = (
        ("containerd", containerd, template),
        ("docker", docker, "/srv/daemon.json"),
    )
    for name, engine, another in both:
        now = dict(files)
        for path in (None, another):
            wishes = WISHES._replace(configuration=path)
            now |= carried_out(engine.plan(wishes, Told(versions, now)), now)
        folder = f"/etc/cdi-gen/{name}"
        usual, other = (
            f"{each}/nvidia-container-runtime"
            for each in (folder, f"{folder}{another.replace('/', '-')}")
        )
        assert f'"{other}"' in now[another]
        assert (now[usual] == now[other]) == (engine is docker)
        wishes = Request(revert=True, configuration=another)
        left = taken_back(engine.plan(wishes, Told(versions, now)), now, files)
        assert not left[other]
        assert left[usual] == now[usual]


@pytest.mark.parametrize(
    ("text", "there", "named"),
    [
        ("", ("runc", "crun"), "/usr/bin/crun"),
        ("", ("runc",), None),
        ('[engine]\nruntime = "runc"\n', ("runc", "crun"), None),
        ('[engine]\nruntime = "/opt/crun"\n', ("runc", "crun"), "/opt/crun"),
        ('[engine]\nruntime = "k"\n[engine.runtimes]\nk = ["/a/krun", "/usr/bin/krun"]\n',
         ("runc", "/usr/bin/krun"), "/usr/bin/krun"),
    ],
)  # fmt: skip
def test_podmans_default_runtime(text: str, there: tuple[str, ...], named: str | None) -> None:
    files = {"/etc/containers/containers.conf": text}
    machine = Told({"podman": "5.8.6", **dict.fromkeys(there, "1")}, files)
    made = carried_out(podman.plan(WISHES, machine), files)
    assert launched(made, "podman") == named


def test_a_users_own_podman_has_its_own_launcher() -> None:
    machine = Told({"podman": "5.8.6", "runc": "1", "crun": "1"}, uid=1000)
    made = carried_out(podman.plan(WISHES._replace(rootless=True), machine), {})
    assert "/home/u/.config/cdi-gen/podman/nvidia-container-runtime" in made


def one(settings: str | None, there: tuple[str, ...] = ("runc",)) -> Plan:
    files = {"/etc/crio/crio.conf.d/10-crio.conf": CRIO_OWN}
    if settings is not None:
        files[low_level_runtime.SETTINGS] = settings
    return crio.plan(WISHES, Told({"crio": "1.34.0", **dict.fromkeys(there, "1")}, files))


def test_what_an_administrator_has_said_of_the_shim_counts() -> None:
    """`runtimes` of config.toml, if it is not what everybody's says."""
    usual = '[nvidia-container-runtime]\nruntimes = ["runc", "crun"]\n'
    assert len(one(usual).changes) == 2
    told = one(usual.replace('["runc", "crun"]', '["/opt/runc"]'))
    assert len(told.changes) == 1
    assert "/usr/libexec/crio/crun, which is the default runtime of crio" in warnings(told)[0]
    own = one(usual.replace('["runc", "crun"]', '["/usr/libexec/crio/crun"]'))
    assert (len(own.changes), warnings(own)) == (1, ())
    assert len(one("[nvidia-container-runtime\n").changes) == 2, "the shim will say that"


def test_nothing_to_start_is_told() -> None:
    found = crio.plan(WISHES, Told({"crio": "1.34.0"}))
    assert "no runc or crun is found" in warnings(found)[0]
    assert warnings(crio.plan(Request(), Told({"crio": "1.34.0"}))) == ()


def test_a_launcher_as_a_shell_reads_it(tmp_path: Path) -> None:
    """Whatever is in the paths, and the words of the engine as they are."""
    shim = tmp_path / "a shim's"
    shim.write_text('#!/bin/sh\nprintf "%s\\n" "$CDI_GEN_LOW_LEVEL_RUNTIME" "$@"\nexit 42\n')
    shim.chmod(0o755)
    launcher = tmp_path / "launcher"
    launcher.write_text(low_level_runtime._launcher("/o d'd/$(x)\"", str(shim)))
    launcher.chmod(0o755)
    words = ["--root", "a b", "", "$x", "create"]
    done = subprocess.run([launcher, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 42
    assert done.stdout.split("\n")[:-1] == ["/o d'd/$(x)\"", *words]
    text = {"/etc/cdi-gen/x/nvidia-container-runtime": launcher.read_text()}
    (path,) = text
    assert low_level_runtime.program_of(path, Told(files=text)) == "/o d'd/$(x)\""
