# SPDX-License-Identifier: Apache-2.0
"""``engine unconfigure`` takes back what ``engine configure`` wrote, and nothing else (A54, A56)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.engines.text import toml_text
from tests.cli.program import ENVIRONMENT, Result, cdi_gen, failure

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

V2 = "io.containerd.grpc.v1.cri"
ENTRY = {"path": "nvidia-container-runtime", "args": []}
SHIM = "/usr/bin/nvidia-container-runtime"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Engines of versions that need to be told of CDI."""
    says = {
        "dockerd": "Docker version 27.5.1",
        "containerd": "containerd x 1.7.24",
        "crio": "1.30.1",
    }
    for name, words in says.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {words}\n")
        program.chmod(0o755)
    return {"PATH": f"{tmp_path}/bin:{ENVIRONMENT['PATH']}"}


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """All files, with what is in them and when they were changed."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    return {
        str(each.relative_to(folder)): (each.read_text(), each.stat().st_ctime_ns) for each in files
    }


RUNTIME = f'runtime_type = "io.containerd.runc.v2"\n[X.options]\nBinaryName = "{SHIM}"\n'
"""As nvidia-ctk writes it."""

CONTAINERD = {
    "config.toml": 'version = 2\nimports = ["ETC/conf.d/*.toml"]\n',
    "conf.d/99-nvidia.toml": f'version = 2\n[plugins."{V2}"]\nenable_cdi = true\n'
    f'[plugins."{V2}".containerd]\ndefault_runtime_name = "nvidia"\n'
    f'[plugins."{V2}".containerd.runtimes.nvidia]\n'
    + RUNTIME.replace("X.", f'plugins."{V2}".containerd.runtimes.nvidia.'),
}
THEIRS = {
    "docker": {
        "daemon.json": json.dumps(
            {"default-runtime": "nvidia", "runtimes": {"nvidia": ENTRY}, "features": {"cdi": True}}
        )
    },
    "containerd": CONTAINERD,
    "crio": {
        "crio.conf": "",
        "crio.conf.d/99-nvidia.toml": '[crio.runtime]\ndefault_runtime = "nvidia"\n'
        f'[crio.runtime.runtimes.nvidia]\nruntime_path = "{SHIM}"\nruntime_type = "oci"\n',
    },
}


@pytest.mark.parametrize("engine", THEIRS)
def test_what_nvidias_toolkit_has_configured_stays(
    engine: str, etc: Path, env: dict[str, str]
) -> None:
    for name, text in THEIRS[engine].items():
        path = etc / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("ETC", str(etc)))
    (main,) = [name for name in THEIRS[engine] if "/" not in name]
    before = tree(etc)
    options = ("--config", str(etc / main))
    one = (
        ("--executable-path", str(etc.parent / "bin/containerd")) if engine == "containerd" else ()
    )
    done = cdi_gen("engine", "configure", engine, *options, *one, env=env)
    assert (done.code, tree(etc)) == (0, before), done
    back = cdi_gen("engine", "unconfigure", engine, *options, env=env)
    assert (back.code, tree(etc)) == (0, before), back
    assert "no change by cdi-gen is recorded, so the file is kept unchanged" in back.err
    assert "nothing to change" in back.err


def docker(what: str, etc: Path, env: dict[str, str], *options: str) -> Result:
    path = str(etc / "daemon.json")
    return cdi_gen("engine", what, "docker", "--config", path, *options, env=env)


def containerd(etc: Path, env: dict[str, str], *options: str) -> Result:
    """Of one program, whatever containerd this machine runs otherwise."""
    program = etc.parent / "bin/containerd"
    words = ("--config", str(etc / "config.toml"), "--executable-path", str(program))
    return cdi_gen("engine", "configure", "containerd", *words, *options, env=env)


def said(etc: Path) -> dict[str, Any]:
    configuration: dict[str, Any] = json.loads((etc / "daemon.json").read_text())
    return configuration


def test_ours_goes_and_theirs_stays_in_one_file(etc: Path, env: dict[str, str]) -> None:
    (etc / "daemon.json").write_text(json.dumps({"runtimes": {"nvidia": ENTRY}}))
    assert docker("configure", etc, env).code == 0
    now = said(etc)
    assert now == {"runtimes": {"nvidia": ENTRY}, "features": {"cdi": True}}
    (etc / "daemon.json").write_text(json.dumps(now | {"debug": True}, indent=2))
    back = docker("unconfigure", etc, env)
    assert said(etc) == {"runtimes": {"nvidia": ENTRY}, "debug": True}
    backup = etc / "daemon.json.cdi-gen.last.bak"
    assert json.loads(backup.read_text()) == now | {"debug": True}
    assert f"backup: {backup}" in back.err
    assert (etc / "daemon.json.cdi-gen.bak").exists()
    assert not (etc / "daemon.json.cdi-gen.json").exists()


def test_a_second_configure_keeps_what_was_first(etc: Path, env: dict[str, str]) -> None:
    (etc / "daemon.json").write_text('{"default-runtime": "kata"}')
    docker("configure", etc, env)
    done = docker("configure", etc, env, "--set-as-default")
    assert f"backup: {etc}/daemon.json.cdi-gen.last.bak" in done.err
    assert said(etc)["default-runtime"] == "nvidia"
    assert docker("unconfigure", etc, env).code == 0
    assert (etc / "daemon.json").read_text() == '{"default-runtime": "kata"}'


def test_one_of_two_runtimes_is_taken_back(etc: Path, env: dict[str, str]) -> None:
    (etc / "daemon.json").write_text("{}")
    docker("configure", etc, env, "--runtime")
    docker("configure", etc, env, "--set-as-default", "--runtime-name", "gpu")
    assert docker("unconfigure", etc, env, "--runtime-name", "nvidia").code == 0
    assert [*said(etc)["runtimes"]] == ["gpu"]
    assert said(etc)["default-runtime"] == "gpu"
    assert docker("unconfigure", etc, env).code == 0
    assert said(etc) == {}


def test_what_is_needed_stays_and_goes_when_it_is_not_needed(
    etc: Path, env: dict[str, str]
) -> None:
    """dockerd does not start with a default runtime that it does not have."""
    (etc / "daemon.json").write_text("{}")
    docker("configure", etc, env, "--runtime")
    path = etc / "daemon.json"
    path.write_text(json.dumps(said(etc) | {"default-runtime": "nvidia"}))
    back = docker("unconfigure", etc, env)
    assert "nvidia is kept: default-runtime names it, and cdi-gen did not set that" in back.err
    assert set(said(etc)) == {"default-runtime", "runtimes"}
    path.write_text(path.read_text().replace('"default-runtime": "nvidia"', '"debug": true'))
    assert docker("unconfigure", etc, env).code == 0
    assert said(etc) == {"debug": True}


def test_a_default_of_another_file_keeps_the_runtime(etc: Path, env: dict[str, str]) -> None:
    path = etc / "config.toml"
    path.write_text("version = 2\n")
    options = ("--config", str(path))
    assert containerd(etc, env, "--runtime").code == 0
    text = f'[plugins."{V2}".containerd]\ndefault_runtime_name = "nvidia"\n'
    path.write_text(path.read_text() + text)
    back = cdi_gen("engine", "unconfigure", "containerd", *options, env=env)
    assert "nvidia is kept: default_runtime_name names it" in back.err
    drop_in = toml_text.parse((etc / "conf.d/99-nvidia.toml").read_text())
    assert "nvidia" in drop_in["plugins"][V2]["containerd"]["runtimes"]
    assert "enable_cdi" not in drop_in["plugins"][V2]


def test_a_drop_in_of_cdi_gen_with_an_addition_by_the_user(etc: Path, env: dict[str, str]) -> None:
    options = ("--config", str(etc / "config.toml"))
    (etc / "config.toml").write_text("version = 2\n")
    containerd(etc, env, "--runtime")
    path = etc / "conf.d" / "99-nvidia.toml"
    theirs = f'[plugins."{V2}".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
    path.write_text(path.read_text() + theirs)
    assert containerd(etc, env).code == 0
    assert path.read_text().endswith(theirs), "the addition is overwritten"
    assert cdi_gen("engine", "unconfigure", "containerd", *options, env=env).code == 0
    left = toml_text.parse(path.read_text())["plugins"][V2]
    assert left["registry"] == {"config_path": "/etc/containerd/certs.d"}
    assert "nvidia" not in left.get("containerd", {}).get("runtimes", {})


def test_a_write_that_was_not_carried_out_is_not_ours(etc: Path, env: dict[str, str]) -> None:
    """Killed between the record and the file; then another program writes the same."""
    path = etc / "daemon.json"
    path.write_text("{}")
    docker("configure", etc, env)
    ours = path.read_text()
    path.write_text("{}")
    record = etc / "daemon.json.cdi-gen.json"
    assert docker("unconfigure", etc, env).code == 0
    assert path.read_text() == "{}"
    assert record.exists()
    assert docker("configure", etc, env, "--runtime").code == 0
    assert len(json.loads(record.read_text())["steps"]) == 1
    assert docker("unconfigure", etc, env).code == 0
    path.write_text(ours)
    assert docker("unconfigure", etc, env).code == 0
    assert path.read_text() == ours


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "\x00", '{"version": 2, "steps": []}', '{"version": 1, "steps": [{}]}',
     '{"version": 1, "steps": [{"before": 1, "after": "x", "values": []}]}', "[" * 100_000,
     '{"version": 1, "steps": [{"before": null, "after": null, "values": [{"path": "a"}]}]}',
     *('{"version": 1, "steps": [{"before": null, "after": "x", "values": [{"path": ["a"], '
       f'"was": null, "now": "1", "above": {above}}}]}}]}}' for above in ("1e999", "-1", "true"))],
)  # fmt: skip
def test_a_record_that_is_none(etc: Path, env: dict[str, str], text: str) -> None:
    (etc / "daemon.json").write_text("{}")
    docker("configure", etc, env)
    before = (etc / "daemon.json").read_text()
    record = etc / "daemon.json.cdi-gen.json"
    record.write_text(text)
    for what in ("configure", "unconfigure"):
        told = failure(docker(what, etc, env, *(["--runtime"] if what == "configure" else [])), 1)
        assert str(record) in told
    assert (etc / "daemon.json").read_text() == before


def test_a_recorded_value_that_is_none(etc: Path, env: dict[str, str]) -> None:
    file, record = etc / "daemon.json", etc / "daemon.json.cdi-gen.json"
    docker("configure", etc, env)
    file.write_text(file.read_text() + "\n")
    before = file.read_text()
    record.write_text(record.read_text().replace('"now": "true"', '"now": "{{"'))
    told = failure(docker("unconfigure", etc, env), 1)
    assert f"{record}: not a record" in told
    assert file.read_text() == before


@needs_root
def test_a_record_that_others_could_have_written_is_refused(etc: Path, env: dict[str, str]) -> None:
    (etc / "daemon.json").write_text("{}")
    docker("configure", etc, env)
    record = etc / "daemon.json.cdi-gen.json"
    for mode, owner in ((0o666, 0), (0o644, 1000)):
        record.chmod(mode)
        os.chown(record, owner, 0)
        assert "another user could have written the record" in failure(
            docker("unconfigure", etc, env), 7
        )


@needs_root
def test_hooks_d_of_nvidias_toolkit_stays(tmp_path: Path) -> None:
    """The file of Podman's hook has one place; so in a mount namespace of its own."""
    hooks = tmp_path / "hooks.d"
    hooks.mkdir()
    script = f"""
        mkdir -p /usr/share/containers/oci/hooks.d
        mount --bind {hooks} /usr/share/containers/oci/hooks.d
        mount -t tmpfs none /etc/containers 2>/dev/null || true
        "$@" engine unconfigure podman"""
    file = hooks / "oci-nvidia-hook.json"
    file.write_text('{"hook": {"path": "/usr/bin/nvidia-container-runtime-hook"}}')
    import sys

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, "sh", sys.executable, "-m", "cdi_gen"],
        env=ENVIRONMENT, cwd=Path(__file__).parents[2], capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert file.exists()
    assert "nothing to change" in done.stderr
