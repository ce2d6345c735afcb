# SPDX-License-Identifier: Apache-2.0
"""The prepared file: when it fits, who may have written it, and how it is made."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cdi_base import host_fingerprint
from cdi_base.findings import Finding
from cdi_base.host_fingerprint import Choices, Layout, Watch
from cdi_gen.catalogue import catalogue
from cdi_gen.programs import prepare, watch
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
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's folders in a temporary one, and a cdi-gen that writes the key it should."""
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
    makes(tmp_path, f"cp {tmp_path}/document {tmp_path}/run/runtime.json")
    return tmp_path


def makes(place: Path, script: str) -> Path:
    """Have the recorded cdi-gen do this."""
    program = place / "cdi-gen"
    program.write_text(f'#!/bin/sh\necho "$@" >> {place}/calls\n{script}\n')
    program.chmod(0o755)
    (place / "libexec/generator").write_text(f"{program}\n")
    return program


def calls(place: Path) -> list[str]:
    return (place / "calls").read_text().splitlines() if (place / "calls").exists() else []


def load(told: list[Finding] | None = None, **other: Any) -> prepared.Prepared:
    return prepared.load(settings(**other), (told if told is not None else []).append)


def test_file_is_written_once(place: Path) -> None:
    assert load().specs == [{"kind": "a/b"}]
    assert load().specs == [{"kind": "a/b"}]
    assert calls(place) == ["--log-format=json runtime prepare"]
    assert (place / "run").stat().st_mode & 0o777 == 0o755


def test_settings_of_config_toml_are_passed_to_cdi_gen(place: Path) -> None:
    chosen: dict[str, Any] = {
        "driver_root": "/driver",
        "spec_dirs": ("/a", "/b"),
        "jit_disabled_hooks": ("chmod",),
        "jit_feature_flags": ("x",),
    }
    with pytest.raises(prepared.NotPreparedError, match="does not match this host"):
        load(**chosen)
    (words,) = calls(place)
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
def test_untrusted_file_is_written_again(place: Path, fault: str) -> None:
    load()
    file = place / "run/runtime.json"
    if fault == "owner":
        os.chown(file, 1000, 0)
    elif fault == "mode":
        file.chmod(0o666)
    elif fault == "link":
        file.rename(place / "elsewhere")
        file.symlink_to(place / "elsewhere")
    elif fault == "fifo":
        file.unlink()
        os.mkfifo(file)
    elif fault == "folder mode":
        (place / "run").chmod(0o777)
    else:
        file.write_text("{")
    makes(place, f"rm {file}; cp {place}/document {file}; chmod 755 {place}/run")
    told: list[Finding] = []
    load(told)
    assert len(calls(place)) == 2
    assert "is not used" in told[0].message
    assert [*dict.fromkeys(each.code for each in told)] == ["CDG-R305", "CDG-R002"]


def test_only_one_of_many_processes_writes_the_file(place: Path) -> None:
    makes(place, f"sleep 0.2; cp {place}/document {place}/run/runtime.json")
    threads = [threading.Thread(target=load) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(calls(place)) == 1


def test_error_of_cdi_gen_is_repeated(place: Path) -> None:
    """It is asked for JSON, so that a wording like a hint's is part of the message."""
    lines = (
        '{"level": "warning", "message": "x", "code": "CDG-H301"}',
        '{"level": "error", "message": "no driver", "code": "CDG-H001", "hint": "load it"}',
        '{"level": "info", "message": "error: y"}',
    )
    makes(place, "; ".join(f"echo '{line}' >&2" for line in lines) + "; exit 3")
    with pytest.raises(prepared.NotPreparedError, match=r"no driver; hint: load it$") as raised:
        load()
    assert raised.value.code == "CDG-H001"
    assert calls(place) == ["--log-format=json runtime prepare"]


def test_long_message_in_another_alphabet_keeps_its_code(place: Path) -> None:
    entry = {"level": "error", "message": "ä" * 3000, "code": "CDG-H001", "hint": "ö" * 900}
    (place / "entry").write_text(json.dumps(entry) + "\n")
    makes(place, f"cat {place}/entry >&2; exit 1")
    with pytest.raises(prepared.NotPreparedError) as raised:
        load()
    assert "ä" * 3000 + "; hint: öö" in str(raised.value)
    assert raised.value.code == "CDG-H001"


def test_text_of_an_interpreter_that_does_not_start_is_repeated(place: Path) -> None:
    makes(place, "echo first >&2; echo 'No module named cdi_gen' >&2; exit 1")
    with pytest.raises(
        prepared.NotPreparedError, match=r"generated: No module named cdi_gen$"
    ) as raised:
        load()
    assert raised.value.code == "CDG-R301"


def test_hanging_cdi_gen_is_ended(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "SECONDS", 0.2)
    makes(place, "exec sleep 60")
    with pytest.raises(prepared.NotPreparedError, match="did not end within"):
        load()


def test_endless_output_of_cdi_gen_is_cut(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    makes(place, "head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1")
    with pytest.raises(prepared.NotPreparedError) as raised:
        load()
    assert len(str(raised.value)) < 5000


def test_environment_of_cdi_gen_is_minimal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_LIKE", "1")
    makes(place, f"env > {place}/environment; cp {place}/document {place}/run/runtime.json")
    load()
    names = {line.partition("=")[0] for line in (place / "environment").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LC_ALL"}


@pytest.mark.parametrize("fault", ["owner", "mode", "folder", "interpreter", "relative"])
def test_untrusted_cdi_gen_is_not_run(
    place: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "PROGRAMS", ())
    program = place / "cdi-gen"
    if fault == "owner":
        os.chown(program, 1000, 0)
    elif fault == "mode":
        program.chmod(0o775)
    elif fault == "folder":
        place.chmod(0o777)
    elif fault == "interpreter":
        shell = place / "sh"
        shell.write_bytes(Path("/bin/sh").read_bytes())
        shell.chmod(0o777)
        program.write_text(f"#!{shell}\n")
    else:
        (place / "libexec/generator").write_text("bin/cdi-gen\n")
    with pytest.raises(prepared.NotPreparedError, match=r"is not run as root|is not at"):
        load()
    assert calls(place) == []


def test_missing_cdi_gen_is_an_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "PROGRAMS", ("/nowhere/cdi-gen",))
    (place / "libexec/generator").unlink()
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


def test_file_is_written_again_for_a_spec_that_it_has_not_converted(place: Path) -> None:
    """One by one: a file that is JSON, as most are, makes no preparation due."""
    document = json.loads((place / "document").read_text())
    document["converted"] = {"/etc/cdi/a.yaml": {"stamp": [1, 2, 3, 4], "document": {}}}
    (place / "document").write_text(json.dumps(document))
    told: list[Finding] = []
    prepared.load(settings(), told.append)
    has = {"/etc/cdi/a.yaml": [1, 2, 3, 4]}
    assert prepared.load(settings(), told.append, has).converted == document["converted"]
    assert (place / "calls").read_text().count("prepare") == 1
    for changed in ({"/etc/cdi/a.yaml": [1, 2, 3, 5]}, has | {"/etc/cdi/b.json": [1, 2, 3, 4]}):
        with pytest.raises(prepared.NotPreparedError, match="does not match this host"):
            prepared.load(settings(), told.append, changed)
    assert (place / "calls").read_text().count("prepare") == 3


class Host:
    """A driver's procfs and a driver root, to change."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.root = folder / "root"
        self.specs = folder / "specs"
        for name in ("gpus/0000:01:00.0", "capabilities/gpu0/mig/gi1/ci0"):
            (self.proc / name).mkdir(parents=True)
        (self.proc / "version").write_text("550\n")
        for name in ("dev/nvidia-caps", "dev/dri", "etc"):
            (self.root / name).mkdir(parents=True)
        self.node("nvidia0", 0)
        self.node("nvidia-caps/nvidia-cap1", 1)
        (self.root / "etc/ld.so.cache").write_text("old")
        self.specs.mkdir()

    def node(self, name: str, minor: int) -> None:
        place = self.root / "dev" / name
        place.parent.mkdir(exist_ok=True)
        os.mknod(place, 0o20666, os.makedev(195, minor))

    def replace_node(self, name: str, minor: int) -> None:
        (self.root / "dev" / name).unlink()
        self.node(name, minor)

    def choices(self) -> Choices:
        known = watch.of_catalogue(catalogue())
        known.files = (*known.files, str(self.root / "run/socket"))
        return Choices(str(self.root), "", [str(self.specs)], watch=known)


CHANGES: dict[str, Callable[[Host], object]] = {
    "another driver": lambda host: (host.proc / "version").write_text("570\n"),
    "a GPU more": lambda host: (host.proc / "gpus/0000:02:00.0").mkdir(),
    "a GPU less": lambda host: (host.proc / "gpus/0000:01:00.0").rmdir(),
    "MIG on": lambda host: (host.proc / "capabilities/gpu1/mig").mkdir(parents=True),
    "a GPU instance": lambda host: (host.proc / "capabilities/gpu0/mig/gi2").mkdir(),
    "a compute instance": lambda host: (host.proc / "capabilities/gpu0/mig/gi1/ci1").mkdir(),
    "a node": lambda host: host.node("nvidia1", 1),
    "no node": lambda host: (host.root / "dev/nvidia0").unlink(),
    "a node of another number": lambda host: host.replace_node("nvidia0", 7),
    "a node of another mode": lambda host: (host.root / "dev/nvidia0").chmod(0o600),
    "uvm": lambda host: host.node("nvidia-uvm", 0),
    "a capability": lambda host: host.node("nvidia-caps/nvidia-cap2", 2),
    "a card": lambda host: host.node("dri/card0", 0),
    "a GPU's node of a high number": lambda host: host.node("nvidia128", 128),
    "a transport": lambda host: host.node("gdrdrv", 0),
    "a numbered transport": lambda host: host.node("nvidia-fs0", 0),
    "an RDMA card": lambda host: host.node("infiniband/uverbs0", 0),
    "a daemon": lambda host: (host.root / "run/socket").mkdir(parents=True),
    "libraries": lambda host: (host.root / "etc/ld.so.cache").write_text("new ones"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_host_that_has_changed(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    monkeypatch.setattr(host_fingerprint, "DRIVER", str(host.proc))
    before = host_fingerprint.key(host.choices())
    assert json.loads(json.dumps(before)) == before
    assert host_fingerprint.key(host.choices()) == before
    CHANGES[change](host)
    assert host_fingerprint.key(host.choices()) != before


@pytest.mark.parametrize(
    "name", ["sda1", "nvidia-uvmx", "nvidia-fs0x", "gdrdrv1", "tty0", "nvidia"]
)
def test_a_node_that_no_spec_has_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    monkeypatch.setattr(host_fingerprint, "DRIVER", str(host.proc))
    before = host_fingerprint.key(host.choices())
    host.node(name, 9)
    assert host_fingerprint.key(host.choices()) == before


@pytest.mark.parametrize("watch", [None, [], [[]], [["x*"]], [["x*"], [1]], {}, [["x*"], "/run"]])
def test_file_of_an_older_version_is_written_again(place: Path, watch: object) -> None:
    """One that does not say what to watch, as before 0.2, when the shim had a list of its own."""
    load()
    file = place / "run/runtime.json"
    document = json.loads(file.read_text())
    del document["watch"]
    if watch is not None:
        document["watch"] = watch
    file.write_text(json.dumps(document))
    load()
    assert len(calls(place)) == 2
    assert json.loads(file.read_text())["watch"] == [["x*"], [f"{place}/socket"]]


def test_what_the_file_says_to_watch_is_compared(place: Path) -> None:
    load()
    load()
    assert len(calls(place)) == 1
    (place / "socket").mkdir()
    with pytest.raises(prepared.NotPreparedError, match="does not match this host"):
        load()
    assert len(calls(place)) == 2


def test_another_choice_is_another_key(tmp_path: Path) -> None:
    keys = [
        host_fingerprint.key(choices)
        for choices in (
            Choices(),
            Choices(driver_root="/driver"),
            Choices(hook="/hook"),
            Choices(places=["dev_root=/dev2"]),
            Choices(layout=Layout("/driver")),
            Choices(layout=Layout("", "/dev2")),
            Choices(layout=Layout("", "", ["/lib2"])),
            Choices(disabled_hooks=["chmod"]),
            Choices(feature_flags=["x"]),
            Choices(watch=Watch(["x"])),
            Choices(watch=Watch((), ["/x"])),
        )
    ]
    assert all(keys.count(key) == 1 for key in keys)


def test_a_driver_root_without_nodes_leaves_them_to_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    monkeypatch.setattr(host_fingerprint, "DEVICES", str(host.root / "dev"))
    libraries = tmp_path / "home/kubernetes/bin/nvidia"
    libraries.mkdir(parents=True)
    choices = Choices(str(libraries), watch=Watch(["nvidia*"]))
    before = host_fingerprint.key(choices)
    assert host_fingerprint.key(choices) == before
    host.node("nvidia1", 1)
    assert host_fingerprint.key(choices) != before


def test_both_sides_agree_where_nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a unit prepares at boot is what the shim looks for."""
    ours = prepare.choices(hook="/usr/libexec/cdi-gen/cdi-gen-hook")
    shim = Choices("", "/usr/libexec/cdi-gen/cdi-gen-hook", ("/etc/cdi", "/var/run/cdi"))
    assert host_fingerprint.key(ours) == host_fingerprint.key(shim)
    assert f"{prepared.DIRECTORY}/{prepared.NAME}" == prepare.PATH


def test_a_directory_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    """A unit prepares for `/etc/cdi`, a config.toml of NVIDIA's says `/etc/cdi/`."""
    (tmp_path / "a.yaml").write_text("")
    spellings = [f"{tmp_path}", f"{tmp_path}/", f"/{tmp_path}//", f"{tmp_path}/."]
    keys = [host_fingerprint.key(Choices(spec_directories=(each,))) for each in spellings]
    assert all(key == keys[0] for key in keys)
    assert host_fingerprint.key(Choices(driver_root=f"{tmp_path}/.")) == host_fingerprint.key(
        Choices(driver_root=str(tmp_path))
    )
    assert [*prepare._converted(Choices(spec_directories=spellings).spec_directories)] == [
        f"{tmp_path}/a.yaml"
    ]
    # The later place of the same directory is its priority.
    twice = ("/etc/cdi/", "/run/cdi", "/etc//cdi")
    assert Choices(spec_directories=twice).spec_directories == ("/run/cdi", "/etc/cdi")


def test_layouts_that_are_none() -> None:
    """What is in the file of another version, or of a hand."""
    documents: tuple[object, ...] = (
        None,
        [],
        ["/", "/"],
        ["/", "/", "x"],
        ["/", 1, []],
        ["/", "/", [1]],
        {},
    )
    for document in documents:
        assert Layout.of(document) is None
    made = Layout("/driver/", "", ["/a", "/b/"])
    assert made.document() == ["/driver", "/driver", ["/a", "/b"]]
    again = Layout.of(made.document())
    assert again is not None
    assert again.document() == made.document()
