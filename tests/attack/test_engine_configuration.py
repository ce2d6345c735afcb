# SPDX-License-Identifier: Apache-2.0
"""What is said in configurations of engines, which are a person's: nothing lost, nothing widened.

Cases A34, A54, A56.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cdi_gen.engines.text import toml_text
from tests.attack.engine_configuration import configure, unconfigure
from tests.cli.program import ENVIRONMENT, cdi_gen, failure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ODD = (
    '{\n\t"z": 1,\n\t"a": {"é": "\\u00e9\\/", "emoji": "😀"},\n\t"big": 1180591620717411303424,\n'
    '\t"float": 1.10, "e": 1E+2,\n\t"esc": "a\\/b\\t",\n\n\t"runtimes": {},\n\t"list": [ 1,2 ,\t3 ]\n}'
)
"""Everything that reading and writing again would change: order, tabs, blanks, escapes, 2**70, how a
float is written, no newline at the end."""


def _state(path: Path) -> tuple[int, int, int]:
    """What changes when a process writes the file, or replaces it; not when it is read."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def test_every_byte_that_is_not_ours_stays(etc: Path) -> None:
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


def test_only_our_keys_are_added(etc: Path) -> None:
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
def test_nothing_is_widened(etc: Path, engine: str, version: str, tmp_path: Path) -> None:
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
def test_what_is_no_strict_json_stays_as_it_is(etc: Path, kind: str) -> None:
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
def test_values_that_no_engine_has(etc: Path, kind: str, place: str) -> None:
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
    # Another user has changed it since, so each value is put back by itself.
    path.write_text(path.read_text().replace("{", '{"b": 1, ', 1))
    assert unconfigure(path).code == 0
    left = path.read_text()
    assert left.replace('"b": 1, ', "", 1) == text
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "value", ["9" * 900_000, "1e" + "9" * 400_000, "[" * 5000, "0x" + "f" * 5000]
)
@pytest.mark.parametrize("engine", ["containerd", "crio"])
def test_values_that_no_toml_has(etc: Path, engine: str, value: str) -> None:
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
def test_what_is_no_toml_stays_as_it_is(etc: Path, engine: str, text: bytes) -> None:
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
def test_comments_order_and_inline_tables_stay(etc: Path, version: int) -> None:
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
    lines = iter(made.splitlines())
    assert all(line in lines for line in text.splitlines()), made
    files = {each: _state(each) for each in etc.rglob("*")}
    assert configure(path, *options, engine="containerd").code == 0
    assert {each: _state(each) for each in etc.rglob("*")} == files, "a second time nothing changes"
    assert unconfigure(path, engine="containerd").code == 0
    assert path.read_text() == text
    left = [each for each in etc.rglob("*") if each.is_file() and each != path]
    assert all(each.name.endswith(".cdi-gen.last.bak") for each in left), left
