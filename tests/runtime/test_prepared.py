# SPDX-License-Identifier: Apache-2.0
"""The prepared file: when it is current, who may have written it, and how it is written."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cdi_base import host_fingerprint
from cdi_base.findings import Finding
from cdi_base.host_fingerprint import Watch
from cdi_runtime.specs import prepared

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the prepared file is root's")

Settings = Any


def settings(**other: object) -> Settings:
    return SimpleNamespace(
        **{
            "mode": "auto",
            "driver_root": "",
            "spec_dirs": (),
            "jit_disabled_hooks": (),
            "jit_feature_flags": (),
            "cuda_compat_mode": "ldconfig",
            "features": {},
        }
        | other
    )


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directories of an installation, and a cdi-gen that writes a current file."""
    tmp_path.chmod(0o755)
    monkeypatch.setattr(prepared, "DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(prepared, "INSTALLATION", str(tmp_path / "libexec"))
    (tmp_path / "libexec").mkdir()
    choices = prepared.choices_of(settings())
    choices.watch = Watch(["x*"], [f"{tmp_path}/socket"])
    document = {
        "key": host_fingerprint.key(choices),
        "watch": choices.watch.document(),
        "specs": [{"kind": "a/b"}],
    }
    (tmp_path / "document").write_text(json.dumps(document))
    set_script(tmp_path, f"cp {tmp_path}/document {tmp_path}/run/runtime.json")
    return tmp_path


def set_script(installation: Path, script: str) -> Path:
    """Make the recorded cdi-gen run a script."""
    program = installation / "cdi-gen"
    program.write_text(f'#!/bin/sh\necho "$@" >> {installation}/calls\n{script}\n')
    program.chmod(0o755)
    (installation / "libexec/generator").write_text(f"{program}\n")
    return program


def calls(installation: Path) -> list[str]:
    return (
        (installation / "calls").read_text().splitlines()
        if (installation / "calls").exists()
        else []
    )


def load(findings: list[Finding] | None = None, **other: Any) -> prepared.Prepared:
    return prepared.load(settings(**other), (findings if findings is not None else []).append)


def test_file_is_written_once(installation: Path) -> None:
    assert load().specs == [{"kind": "a/b"}]
    assert load().specs == [{"kind": "a/b"}]
    assert calls(installation) == ["--log-format=json runtime prepare"]
    assert (installation / "run").stat().st_mode & 0o777 == 0o755


def test_settings_of_config_toml_are_passed_to_cdi_gen(installation: Path) -> None:
    chosen: dict[str, Any] = {
        "driver_root": "/driver",
        "spec_dirs": ("/a", "/b"),
        "jit_disabled_hooks": ("chmod",),
        "jit_feature_flags": ("x",),
    }
    with pytest.raises(prepared.NotPreparedError, match="does not match this host"):
        load(**chosen)
    (words,) = calls(installation)
    assert words == (
        "--log-format=json runtime prepare --driver-root=/driver --spec-dir=/a --spec-dir=/b "
        "--disable-hook=chmod --feature-flag=x"
    )


@pytest.mark.parametrize(
    "other",
    [{"cuda_compat_mode": "disabled"}, {"features": {"disable-cuda-compat-lib-hook": True}}],
)
def test_legacy_mode_disables_the_compat_hook(other: dict[str, object]) -> None:
    assert (
        "enable-cuda-compat" in prepared.choices_of(settings(mode="legacy", **other)).disabled_hooks
    )
    assert prepared.choices_of(settings(mode="auto", **other)).disabled_hooks == ()


@pytest.mark.parametrize("fault", ["owner", "mode", "link", "fifo", "folder mode", "not JSON"])
def test_untrusted_file_is_written_again(installation: Path, fault: str) -> None:
    load()
    file = installation / "run/runtime.json"
    if fault == "owner":
        os.chown(file, 1000, 0)
    elif fault == "mode":
        file.chmod(0o666)
    elif fault == "link":
        file.rename(installation / "elsewhere")
        file.symlink_to(installation / "elsewhere")
    elif fault == "fifo":
        file.unlink()
        os.mkfifo(file)
    elif fault == "folder mode":
        (installation / "run").chmod(0o777)
    else:
        file.write_text("{")
    set_script(
        installation, f"rm {file}; cp {installation}/document {file}; chmod 755 {installation}/run"
    )
    findings: list[Finding] = []
    load(findings)
    assert len(calls(installation)) == 2
    assert "is not used" in findings[0].message
    assert [*dict.fromkeys(finding.code for finding in findings)] == ["CDG-R305", "CDG-R002"]


def test_only_one_of_many_processes_writes_the_file(installation: Path) -> None:
    set_script(
        installation, f"sleep 0.2; cp {installation}/document {installation}/run/runtime.json"
    )
    threads = [threading.Thread(target=load) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls(installation)) == 1


def test_error_of_cdi_gen_is_repeated(installation: Path) -> None:
    """cdi-gen writes JSON, so a message can contain any words, for instance "error:"."""
    lines = (
        '{"level": "warning", "message": "x", "code": "CDG-H301"}',
        '{"level": "error", "message": "no driver", "code": "CDG-H001", "hint": "load it"}',
        '{"level": "info", "message": "error: y"}',
    )
    set_script(installation, "; ".join(f"echo '{line}' >&2" for line in lines) + "; exit 3")
    with pytest.raises(prepared.NotPreparedError, match=r"no driver; hint: load it$") as raised:
        load()
    assert raised.value.code == "CDG-H001"
    assert calls(installation) == ["--log-format=json runtime prepare"]


def test_long_message_in_another_alphabet_keeps_its_code(installation: Path) -> None:
    entry = {"level": "error", "message": "ä" * 3000, "code": "CDG-H001", "hint": "ö" * 900}
    (installation / "entry").write_text(json.dumps(entry) + "\n")
    set_script(installation, f"cat {installation}/entry >&2; exit 1")
    with pytest.raises(prepared.NotPreparedError) as raised:
        load()
    assert "ä" * 3000 + "; hint: öö" in str(raised.value)
    assert raised.value.code == "CDG-H001"


def test_text_of_an_interpreter_that_does_not_start_is_repeated(installation: Path) -> None:
    set_script(installation, "echo first >&2; echo 'No module named cdi_gen' >&2; exit 1")
    with pytest.raises(
        prepared.NotPreparedError, match=r"generated: No module named cdi_gen$"
    ) as raised:
        load()
    assert raised.value.code == "CDG-R301"


def test_hanging_cdi_gen_is_ended(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "SECONDS", 0.2)
    set_script(installation, "exec sleep 60")
    with pytest.raises(prepared.NotPreparedError, match="did not end within"):
        load()


def test_endless_output_of_cdi_gen_is_cut(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_script(installation, "head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1")
    with pytest.raises(prepared.NotPreparedError) as raised:
        load()
    assert len(str(raised.value)) < 5000


def test_environment_of_cdi_gen_is_minimal(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD_LIKE", "1")
    set_script(
        installation,
        f"env > {installation}/environment; cp {installation}/document {installation}/run/runtime.json",
    )
    load()
    names = {
        line.partition("=")[0] for line in (installation / "environment").read_text().splitlines()
    }
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LC_ALL"}


@pytest.mark.parametrize("fault", ["owner", "mode", "folder", "interpreter", "relative"])
def test_untrusted_cdi_gen_is_not_run(
    installation: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "PROGRAMS", ())
    program = installation / "cdi-gen"
    if fault == "owner":
        os.chown(program, 1000, 0)
    elif fault == "mode":
        program.chmod(0o775)
    elif fault == "folder":
        installation.chmod(0o777)
    elif fault == "interpreter":
        shell = installation / "sh"
        shell.write_bytes(Path("/bin/sh").read_bytes())
        shell.chmod(0o777)
        program.write_text(f"#!{shell}\n")
    else:
        (installation / "libexec/generator").write_text("bin/cdi-gen\n")
    with pytest.raises(prepared.NotPreparedError, match=r"is not run as root|is not at"):
        load()
    assert calls(installation) == []


def test_missing_cdi_gen_is_an_error(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "PROGRAMS", ("/nowhere/cdi-gen",))
    (installation / "libexec/generator").unlink()
    with pytest.raises(prepared.NotPreparedError, match=r"is not at .*nowhere/cdi-gen") as raised:
        load()
    assert "cdi-gen generate -o /etc/cdi/nvidia.json" in str(raised.value)


def test_cdi_gen_beside_the_installation_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libexec/cdi-gen").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cdi-gen").symlink_to("/bin/true")
    monkeypatch.setattr(prepared, "INSTALLATION", str(tmp_path / "libexec/cdi-gen"))
    assert prepared.generator() == f"{tmp_path}/bin/cdi-gen"


def test_file_is_written_again_for_a_spec_that_it_has_not_converted(installation: Path) -> None:
    """The files are compared one by one, so a JSON file does not cause a preparation."""
    document = json.loads((installation / "document").read_text())
    document["converted"] = {"/etc/cdi/a.yaml": {"stamp": [1, 2, 3, 4], "document": {}}}
    (installation / "document").write_text(json.dumps(document))
    findings: list[Finding] = []
    prepared.load(settings(), findings.append)
    has = {"/etc/cdi/a.yaml": [1, 2, 3, 4]}
    assert prepared.load(settings(), findings.append, has).converted == document["converted"]
    assert (installation / "calls").read_text().count("prepare") == 1
    for changed in ({"/etc/cdi/a.yaml": [1, 2, 3, 5]}, has | {"/etc/cdi/b.json": [1, 2, 3, 4]}):
        with pytest.raises(prepared.NotPreparedError, match="does not match this host"):
            prepared.load(settings(), findings.append, changed)
    assert (installation / "calls").read_text().count("prepare") == 3


@pytest.mark.parametrize("watch", [None, [], [[]], [["x*"]], [["x*"], [1]], {}, [["x*"], "/run"]])
def test_file_of_an_older_version_is_written_again(installation: Path, watch: object) -> None:
    """A file without `watch`, as before 0.2, when the shim had a fixed list."""
    load()
    file = installation / "run/runtime.json"
    document = json.loads(file.read_text())
    del document["watch"]
    if watch is not None:
        document["watch"] = watch
    file.write_text(json.dumps(document))
    load()
    assert len(calls(installation)) == 2
    assert json.loads(file.read_text())["watch"] == [["x*"], [f"{installation}/socket"]]


def test_watched_files_of_the_prepared_file_are_compared(installation: Path) -> None:
    load()
    load()
    assert len(calls(installation)) == 1
    (installation / "socket").mkdir()
    with pytest.raises(prepared.NotPreparedError, match="does not match this host"):
        load()
    assert len(calls(installation)) == 2
