# SPDX-License-Identifier: Apache-2.0
"""Configurations of engines, which are a person's: nothing lost, nothing widened (A34, A54, A56)."""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.engines import configuration_file, toml_text
from cdi_gen.errors import CdiGenError, UnsafeError
from tests.attack.faults import Call, calls
from tests.cli.program import CHECKOUT, ENVIRONMENT, Result, cdi_gen, failure

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
pytestmark = needs_root

ODD = (
    '{\n\t"z": 1,\n\t"a": {"é": "\\u00e9\\/", "emoji": "😀"},\n\t"big": 1180591620717411303424,\n'
    '\t"float": 1.10, "e": 1E+2,\n\t"esc": "a\\/b\\t",\n\n\t"runtimes": {},\n\t"list": [ 1,2 ,\t3 ]\n}'
)
"""Everything that reading and writing anew would change: order, tabs, blanks, escapes, 2**70, how a
float is written, no newline at the end."""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder


def configure(path: Path, *options: str, engine: str = "docker") -> Result:
    return cdi_gen("engine", "configure", engine, "--config", str(path), *options)


def unconfigure(path: Path, *options: str, engine: str = "docker") -> Result:
    return cdi_gen("engine", "unconfigure", engine, "--config", str(path), *options)


def _state(path: Path) -> tuple[int, int, int]:
    """What changes when somebody writes a file, or another to its place; not when it is read."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def test_every_byte_that_is_not_ours_stays(etc) -> None:
    """A54."""
    path = etc / "daemon.json"
    path.write_text(ODD)
    assert configure(path, "--set-as-default").code == 0
    made = path.read_text()
    left = iter(made)
    assert all(character in left for character in ODD), "only insertions"
    assert made.startswith(ODD[: ODD.index('"runtimes"')])
    assert ODD[ODD.index('"list"') : -2] in made
    assert not made.endswith("\n")
    again = _state(path)
    assert configure(path, "--set-as-default").code == 0
    assert _state(path) == again
    assert unconfigure(path).code == 0
    assert path.read_bytes() == ODD.encode()


def test_only_our_keys_are_added(etc) -> None:
    """A34."""
    path = etc / "daemon.json"
    path.write_text(ODD)
    configure(path, "--set-as-default", "--runtime-path", "/usr/bin/nvidia-container-runtime")
    said, was = json.loads(path.read_text()), json.loads(ODD)
    added = {key: said[key] for key in said if said[key] != was.get(key)}
    assert added == {
        "features": {"cdi": True},
        "runtimes": {"nvidia": {"path": "/usr/bin/nvidia-container-runtime", "args": []}},
        "default-runtime": "nvidia",
    }


@pytest.mark.parametrize("engine", ["containerd", "crio"])
@pytest.mark.parametrize("version", ["1.7.24", "2.1.4"])
def test_nothing_is_widened(etc, engine, version, tmp_path) -> None:
    """A34: who may annotate a pod is not who may give it a device."""
    program = tmp_path / engine
    program.write_text(f"#!/bin/sh\ntest $1 = --version && echo {engine} {version}\n")
    program.chmod(0o755)
    texts = {
        "containerd": 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n'
        'runtime_type = "io.containerd.runc.v2"\npod_annotations = ["cdi.k8s.io/*", "a.b/*"]\n'
        'container_annotations = ["*"]\n',
        "crio": '[crio.runtime]\ncdi_spec_dirs = ["/opt/cdi"]\n[crio.runtime.runtimes.runc]\n'
        'allowed_annotations = ["cdi.k8s.io/", "a.b/c"]\n',
    }
    path = etc / "config"
    path.write_text(texts[engine])
    env = {"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"}
    done = cdi_gen(
        "engine", "configure", engine, "--config", str(path), "--set-as-default", env=env
    )
    assert done.code == 0, done
    (drop_in,) = etc.glob("*.d/*")
    said = toml_text.parse(drop_in.read_text())
    names = ("io.containerd.grpc.v1.cri", "containerd") if engine == "containerd" else ()
    section = toml_text.get(said, ("plugins", *names) if names else ("crio", "runtime"))
    runtime = json.dumps(section["runtimes"]["nvidia"])
    assert "a.b/" in runtime
    assert "cdi.k8s.io" not in runtime
    assert '"*"' not in runtime
    assert "privileged_without_host_devices" not in drop_in.read_text()
    assert "cdi_spec_dirs" not in drop_in.read_text()


BROKEN = {
    "twice": b'{"debug": true, "debug": false}\n',
    "twice-escaped": b'{"debug": true, "\\u0064ebug": false}\n',
    "byte-order-mark": b"\xef\xbb\xbf{}\n",
    "utf-16": '{"debug": true}\n'.encode("utf-16"),
    "nan": b'{"a": NaN}\n',
    "infinity": b'{"a": -Infinity}\n',
    "truncated": b'{"a": 1',
    "comment": b'{"a": 1} // why\n',
    "trailing-comma": b'{"a": 1,}\n',
    "list": b"[]\n",
    "not-utf-8": b'{"a": "\xff"}\n',
    "control": b'{"a": "\x01"}\n',
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "deep-list": b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}",
    "our-key-is-no-object": b'{"features": true}\n',
    "large": b'{"a": "' + b"x" * (1 << 20) + b'"}',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_strict_json_stays_as_it_is(etc, kind) -> None:
    """A54."""
    path = etc / "daemon.json"
    path.write_bytes(BROKEN[kind])
    before = path.stat()
    for command in (configure, unconfigure):
        if kind == "our-key-is-no-object" and command is unconfigure:
            continue
        told = failure(command(path), 1)
        assert str(path) in told
    assert path.read_bytes() == BROKEN[kind]
    assert path.stat().st_ctime_ns == before.st_ctime_ns
    assert os.listdir(etc) == ["daemon.json"]


ENDLESS = {
    "integer": "9" * 900_000,
    "fraction": "0." + "9" * 900_000,
    "exponent": "1e" + "9" * 400_000,
    "huge": "1e999999",
    "negative": "-" + "1" * 5000,
    "list": "[" + ",".join(["1"] * 20_000) + "]",
    "text": '"' + "\\u0000" * 100_000 + '"',
    "surrogate": '"\\ud800"',
}


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("place", ["elsewhere", "ours"])
def test_values_that_no_engine_has(etc, kind, place) -> None:
    """A54: they stay as they are written; one in the place of ours is replaced, and comes back."""
    path = etc / "daemon.json"
    text = {
        "elsewhere": f'{{"a": {ENDLESS[kind]}}}\n',
        "ours": f'{{"default-runtime": {ENDLESS[kind]}}}\n',
    }[place]
    path.write_text(text)
    done = configure(path, "--set-as-default")
    assert done.code == 0, done.err[-2000:]
    assert json.dumps("nvidia") in path.read_text()
    # Somebody else has changed it since, so each value is put back by itself.
    path.write_text(path.read_text().replace("{", '{"b": 1, ', 1))
    assert unconfigure(path).code == 0
    left = path.read_text()
    assert left.replace('"b": 1, ', "", 1) == text
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "value", ["9" * 900_000, "1e" + "9" * 400_000, "[" * 5000, "0x" + "f" * 5000]
)
@pytest.mark.parametrize("engine", ["containerd", "crio"])
def test_values_that_no_toml_has(etc, engine, value) -> None:
    """A56."""
    path = etc / "config"
    text = f"a = {value}\n"
    path.write_text(text)
    done = configure(path, "--runtime", engine=engine)
    assert "Traceback" not in done.err
    assert done.code in {0, 1}, done
    assert unconfigure(path, engine=engine).code in {0, 1}
    assert path.read_text() == text


@pytest.mark.parametrize(
    "text",
    [b"a = 1\na = 2\n", b"\xef\xbb\xbfversion = 2\n", b"[x\n", b"a = [" * 3000, b"a = \xff\n"],
)
@pytest.mark.parametrize("engine", ["containerd", "crio"])
def test_what_is_no_toml_stays_as_it_is(etc, engine, text) -> None:
    """A56."""
    path = etc / "config"
    path.write_bytes(text)
    assert str(path) in failure(configure(path, "--runtime", engine=engine), 1)
    assert path.read_bytes() == text
    assert os.listdir(etc) == ["config"]


TOML = """\
# The machine's.

version = 2 # not 3
imports = [ # from elsewhere
  "/nowhere/*.toml", # theirs
]
[grpc]
  gid = 0
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = 'pause' # ours
    cni = { bin_dir = "/b", conf_dir = "/c" } # inline
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      options = { SystemdCgroup = true }
\t[timeouts]
\t  "io.containerd.timeout.shim.load" = "5s"
"""


@pytest.mark.parametrize("version", [1, 2, 3])
def test_comments_order_and_inline_tables_stay(etc, version) -> None:
    """A56."""
    text = TOML.replace("version = 2", f"version = {version}")
    plugin = {1: "cri", 2: '"io.containerd.grpc.v1.cri"', 3: '"io.containerd.cri.v1.runtime"'}
    text = text.replace('"io.containerd.grpc.v1.cri"', plugin[version])
    path = etc / "config.toml"
    path.write_text(text)
    options = ("--set-as-default",)
    assert configure(path, *options, engine="containerd").code == 0
    made = path.read_text()
    assert made != text
    left = iter(made.splitlines())
    assert all(line in left for line in text.splitlines()), made
    files = {each: _state(each) for each in etc.rglob("*")}
    assert configure(path, *options, engine="containerd").code == 0
    assert {each: _state(each) for each in etc.rglob("*")} == files, "a second time nothing changes"
    assert unconfigure(path, engine="containerd").code == 0
    assert path.read_text() == text
    left = [each for each in etc.rglob("*") if each.is_file() and each != path]
    assert all(each.name.endswith(".cdi-gen.last.bak") for each in left), left


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_owner_mode_and_attributes_stay(etc, mode) -> None:
    """A54."""
    path = etc / "daemon.json"
    path.write_text("{}\n")
    path.chmod(mode)
    os.chown(path, 1000, 1001)
    attributes = {"user.note": b"mine"}
    try:
        os.setxattr(path, "user.note", b"mine")
    except OSError:  # a file system that has none
        attributes = {}
    done = configure(path)
    assert done.code == 0
    assert "can be changed by others than root (uid 1000" in done.err
    for each in (path, Path(f"{path}.cdi-gen.bak")):
        status = each.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1000, 1001, mode)
        assert {name: os.getxattr(each, name) for name in os.listxattr(each)} == attributes
    assert unconfigure(path).code == 0
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (1000, mode)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_symbolic_link_is_followed_and_stays(etc, absolute) -> None:
    """A54."""
    target = etc / "real" / "docker.json"
    target.parent.mkdir()
    target.write_text("{}\n")
    path = etc / "daemon.json"
    path.symlink_to(target if absolute else "real/docker.json")
    assert configure(path).code == 0
    assert path.is_symlink()
    assert json.loads(target.read_text()) == {"features": {"cdi": True}}
    assert Path(f"{target}.cdi-gen.bak").read_text() == "{}\n"
    assert unconfigure(path).code == 0
    assert path.is_symlink()
    assert target.read_text() == "{}\n"


def test_a_hard_link_is_told_of(etc) -> None:
    """A54: the other name keeps what it had."""
    path = etc / "daemon.json"
    path.write_text("{}\n")
    os.link(path, etc / "other.json")
    done = configure(path)
    assert done.code == 0
    assert f"{path} has 2 names (hard links)" in done.err
    assert (etc / "other.json").read_text() == "{}\n"
    assert path.read_text() != "{}\n"


@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "loop", "socket"])
def test_what_is_no_file_is_refused(etc, kind) -> None:
    """A54."""
    path = etc / "daemon.json"
    make: dict[str, Callable[[], object]] = {
        "directory": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: os.mknod(path, 0o020666, os.makedev(1, 5)),
        "loop": lambda: path.symlink_to(path),
        "socket": lambda: os.mknod(path, 0o140666),
    }
    make[kind]()
    assert str(path) in failure(configure(path), 1)
    assert os.listdir(etc) == ["daemon.json"]


def test_a_directory_that_others_can_write_to_is_refused(etc) -> None:
    """A54."""
    path = etc / "daemon.json"
    path.write_text("{}\n")
    for make in (lambda: etc.chmod(0o777), lambda: (etc.chmod(0o755), os.chown(etc, 1000, 0))):
        make()
        for command in (configure, unconfigure):
            if command is configure:
                assert "is not changed" in failure(command(path), 7)
        assert path.read_text() == "{}\n"
        assert os.listdir(etc) == ["daemon.json"]


def test_a_link_into_a_directory_of_others_is_refused(etc, tmp_path) -> None:
    """A54."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "daemon.json").write_text("{}\n")
    os.chown(theirs, 1000, 1000)
    path = etc / "daemon.json"
    path.symlink_to(theirs / "daemon.json")
    assert "theirs belongs to uid 1000" in failure(configure(path), 7)
    path.unlink()
    path.symlink_to("between")
    (etc / "between").symlink_to(theirs / "daemon.json")
    assert "theirs belongs to uid 1000" in failure(configure(path), 7)
    assert (theirs / "daemon.json").read_text() == "{}\n"


def test_a_program_that_others_can_change_is_not_registered(etc, tmp_path) -> None:
    shim = tmp_path / "shim"
    shim.write_text("#!/bin/sh\n")
    shim.chmod(0o777)
    told = failure(configure(etc / "daemon.json", "--runtime-path", str(shim)), 7)
    assert "is not for an engine to run" in told
    assert os.listdir(etc) == []


def _changed_meanwhile(path: Path, how: str) -> None:
    if how == "written":
        path.write_text('{"theirs": 1}')
    elif how == "same-size":
        status = path.stat()
        path.write_text('{"a": 2}\n')
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif how == "replaced":
        other = path.with_name("other")
        other.write_text('{"a": 1}\n')
        other.rename(path)
    elif how == "removed":
        path.unlink()
    elif how == "owner":
        os.chown(path, 1000, 1000)
    elif how == "linked":
        path.rename(path.with_name("moved"))
        path.symlink_to("moved")


@pytest.mark.parametrize("how", ["written", "same-size", "replaced", "removed", "owner", "linked"])
@pytest.mark.parametrize("text", ['{"b": 1}\n', None])
def test_an_update_of_somebody_else_is_not_lost(etc, how, text) -> None:
    """A54."""
    path = etc / "daemon.json"
    path.write_text('{"a": 1}\n')
    file = configuration_file.read(str(path))
    _changed_meanwhile(path, how)
    now = path.read_bytes() if path.exists() else None
    with pytest.raises(CdiGenError, match="somebody else has changed it meanwhile"):
        configuration_file.replace(file, text)
    assert (path.read_bytes() if path.exists() else None) == now
    assert path.is_symlink() == (how == "linked")
    assert not [name for name in os.listdir(etc) if name.startswith(".cdi-gen")]


def test_a_file_that_somebody_made_meanwhile_is_not_lost(etc) -> None:
    """A54."""
    path = etc / "daemon.json"
    file = configuration_file.read(str(path))
    path.write_text("theirs")
    with pytest.raises(CdiGenError, match="somebody else has made it meanwhile"):
        configuration_file.replace(file, "ours", first=True)
    assert path.read_text() == "theirs"
    assert os.listdir(etc) == ["daemon.json"]


def test_a_backup_is_made_once(etc) -> None:
    """A54: of the state before the first change."""
    path = etc / "daemon.json"
    path.write_text('{"a": 1}\n')
    configure(path)
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    done = configure(path, "--runtime")
    assert "as it was" not in done.err
    assert Path(f"{path}.cdi-gen.bak").read_text() == '{"a": 1}\n'
    assert unconfigure(path).code == 0
    assert path.read_text() == '{"a": 2}\n'
    assert Path(f"{path}.cdi-gen.bak").exists(), "it is not what the file is now"


def test_a_backups_place_that_is_a_link_is_not_followed(etc, tmp_path) -> None:
    """A54."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = etc / "daemon.json"
    path.write_text("{}\n")
    Path(f"{path}.cdi-gen.bak").symlink_to(victim)
    assert configure(path).code == 0
    assert victim.read_text() == "mine"


def test_a_full_file_system(etc) -> None:
    """A54."""
    script = f"""
        mount -t tmpfs -o size=16k,mode=755 none {etc}
        printf '{{"old": 1}}' > {etc}/daemon.json
        head -c 12288 /dev/zero > {etc}/ballast
        code=0; "$@" engine configure docker --config {etc}/daemon.json || code=$?
        cat {etc}/daemon.json; echo; ls -A {etc}
        exit $code"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, "sh", sys.executable, "-m", "cdi_gen"],
        env=ENVIRONMENT, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1, done
    assert "No space left on device; it is as it was" in done.stderr
    assert done.stdout.splitlines()[0] == '{"old": 1}'
    assert ".cdi-gen-" not in done.stdout


OLD = '{"debug": true}\n'
NEW = '{"debug": true, "features": {"cdi": true}}\n'
LEFT = re.compile(r"\.cdi-gen-[0-9a-f]{16}\.tmp")


class Scene:
    """A copy of the program, which nobody changes meanwhile, and a file for it to configure."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "library"
        for name in ("cdi_gen", "hooks/cdi_hook", "hooks/cdi_runtime", "specs/cdi_specs"):
            target = self.library / name.rpartition("/")[2]
            shutil.copytree(CHECKOUT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(self.library, quiet=1)
        self.etc = folder / "etc"
        self.path = self.etc / "daemon.json"
        self.trace = folder / "trace"
        self.again()
        done = self.run("-o", str(self.trace))
        assert done.returncode == 0, done
        assert self.path.read_text() == NEW
        trace = self.trace.read_text(errors="replace")
        # Of those before, the interpreter's; and strace counts each name from the first call on.
        before = trace[: trace.index(str(self.path), trace.index("\n"))].count("\n")
        counted = calls(trace, "execve")
        skipped = len(calls("\n".join(trace.splitlines()[:before]), "execve"))
        self.calls = counted[skipped:]

    def again(self) -> None:
        shutil.rmtree(self.etc, ignore_errors=True)
        self.etc.mkdir()
        self.path.write_text(OLD)
        self.path.chmod(0o640)

    def run(self, *strace: str) -> subprocess.CompletedProcess[str]:
        command = ["engine", "configure", "docker", "--config", str(self.path)]
        return subprocess.run(
            ["strace", "-f", "-qq", *strace, sys.executable, "-m", "cdi_gen", *command],
            env=ENVIRONMENT | {"PYTHONPATH": str(self.library), "PYTHONHASHSEED": "0"},
            cwd=self.library, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def inject(self, call: Call, fault: str) -> subprocess.CompletedProcess[str]:
        self.again()
        inject = f"inject={call.name}:{fault}:when={call.number}"
        return self.run("-o", "/dev/null", "-e", f"trace={call.name}", "-e", inject)

    def whole(self) -> str:
        """The file, which must be the old one or the new one, with its mode; backup likewise."""
        text = self.path.read_text()
        assert text in {OLD, NEW}
        assert self.path.stat().st_mode & 0o777 == 0o640
        backup = Path(f"{self.path}.cdi-gen.bak")
        if backup.exists():
            assert backup.read_text() == OLD
            assert backup.stat().st_mode & 0o777 == 0o640
        else:
            assert text == OLD, "changed, and no backup"
        record = Path(f"{self.path}.cdi-gen.json")
        assert text == OLD or record.exists(), "changed, and no record"
        assert not record.exists() or json.loads(record.read_text())["steps"]
        return text

    def litter(self) -> set[str]:
        kept = {"daemon.json", "daemon.json.cdi-gen.bak", "daemon.json.cdi-gen.json"}
        return set(os.listdir(self.etc)) - kept


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(params=[3, pytest.param(1, marks=pytest.mark.nightly)], ids=["some", "all"])
def step(request: pytest.FixtureRequest) -> int:
    """Every third call; at night all of them."""
    return int(request.param)


MEMORY = {"mmap", "munmap", "mremap", "brk", "madvise"}
"""Of these there may be one less: it depends on where the kernel puts things."""


def test_killed_at_a_system_call(scene, step) -> None:
    """A47: at night at each."""
    ends = set()
    for call in scene.calls[::step]:
        done = scene.inject(call, "signal=KILL")
        if call.name in MEMORY and done.returncode == 0:
            continue
        assert done.returncode == -9, (call, done)
        ends.add(scene.whole())
        assert all(LEFT.fullmatch(name) for name in scene.litter()), call
        scene.run("-o", "/dev/null", "-e", "trace=none")
        assert scene.whole() == NEW, "and the next run does it"
    assert ends == {OLD, NEW}


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EACCES", "EMFILE", "EINTR"])
def test_a_system_call_that_fails(scene, step, error) -> None:
    """A48: at night each."""
    seen = 0
    for call in scene.calls[len(error) % step :: step * 2 - 1]:
        done = scene.inject(call, f"error={error}")
        text = scene.whole()
        assert "Traceback" not in done.stderr, (call, done)
        assert done.returncode in {0, 1, 7}, (call, done)
        if done.returncode == 0:
            assert text == NEW, (call, done)
        else:
            assert "cdi-gen: error: " in done.stderr or "close" in call.name, (call, done)
            seen += 1
        if call.name != "unlink":
            assert not scene.litter(), call
    assert seen


def test_the_way_to_a_file_is_looked_at_link_by_link(etc) -> None:
    path = etc / "daemon.json"
    path.write_text("{}\n")
    configuration_file.check(str(path))
    configuration_file.check(str(etc / "not" / "there" / "yet.json"))
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(CdiGenError, match="Too many levels"):
        configuration_file.check(str(path))
    etc.chmod(0o775)
    with pytest.raises(UnsafeError, match="can be written to by others"):
        configuration_file.check(str(etc / "x.json"))
