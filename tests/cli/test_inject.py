# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen inject``: from a bundle, a file or a pipe, to standard output, a file or in place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.program import SPEC, cdi_gen, failure

NAME = "nvidia.com/gpu=0"
CONFIG = {
    "ociVersion": "1.0.2",
    "process": {"args": ["sh"], "env": ["PATH=/bin"], "cwd": "/"},
    "x": {"unknown": "é"},
}


@pytest.fixture
def specs(tmp_path: Path) -> str:
    folder = tmp_path / "cdi"
    folder.mkdir()
    (folder / "nvidia.json").write_text(SPEC)
    # Nothing of it is on this host, so nothing but the spec decides.
    (folder / "other.yaml").write_text(
        "cdiVersion: 0.5.0\nkind: v.com/a\ndevices:\n- name: '0'\n  containerEdits: {env: [A=b]}\n"
    )
    return str(folder)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bundle" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(CONFIG))
    path.chmod(0o640)
    return path


def test_every_way_in_and_out_gives_the_same(specs: str, config: Path) -> None:
    words = ("inject", "--device", NAME, "--device", "v.com/a=0", "--spec-dir", specs)
    printed = cdi_gen(*words, str(config))
    assert printed.code == 0
    said = f"cdi-gen: applied {NAME}, v.com/a=0 from {specs}/nvidia.json, {specs}/other.yaml\n"
    assert printed.err == said
    edited = json.loads(printed.out)
    first, *_, void, last = edited["process"]["env"]
    assert (first, void, last) == ("PATH=/bin", "NVIDIA_VISIBLE_DEVICES=void", "A=b")
    assert edited["x"] == CONFIG["x"]
    assert "/dev/nvidia0" in [device["path"] for device in edited["linux"]["devices"]]
    assert json.loads(config.read_text()) == CONFIG

    bundle = str(config.parent)
    there = config.read_text()
    assert cdi_gen(*words, bundle).out == printed.out
    assert cdi_gen(*words, cwd=bundle).out == printed.out
    assert cdi_gen(*words, "-", input=there.encode()).out == printed.out
    assert cdi_gen(*words, "-o", "-", bundle).out == printed.out

    other = config.with_name("other.json")
    written = cdi_gen(*words, "-o", str(other), bundle)
    assert (written.code, written.out) == (0, "")
    assert other.read_text() == printed.out
    assert other.stat().st_mode & 0o777 == 0o640
    assert config.read_text() == there

    assert cdi_gen(*words, "--in-place", bundle).out == ""
    assert config.read_text() == printed.out
    assert config.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(bundle)) == ["config.json", "other.json"]


def test_what_comes_from_a_pipe_is_written_for_its_owner_alone(specs: str, tmp_path: Path) -> None:
    """It may hold secrets, in the environment of the process."""
    made = tmp_path / "new.json"
    words = ("inject", "--device", "v.com/a=0", "--spec-dir", specs, "-o", str(made), "-")
    assert cdi_gen(*words, input=json.dumps(CONFIG).encode(), umask=0).code == 0
    assert made.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("v.com/a=9", 1, "no spec file in {specs} defines v.com/a=9"),
        ("0", 2, "--device: '0' is not a qualified device name: it has no '='"),
        ("v.com/a=", 2, "--device: the device name is empty"),
        ("v.com/a=0\n", 2, "device name '0\\n' has"),
    ],
)
def test_a_name_that_is_none(specs: str, config: Path, name: str, code: int, said: str) -> None:
    words = ("--device", "v.com/a=0", "--device", name, "--spec-dir", specs, "--in-place")
    assert said.format(specs=specs) in failure(cdi_gen("inject", *words, str(config)), code)
    assert json.loads(config.read_text()) == CONFIG


def test_a_conflict_names_the_files(specs: str, config: Path) -> None:
    (Path(specs) / "two.json").write_text(SPEC)
    result = cdi_gen("inject", "--device", NAME, "--spec-dir", specs, str(config))
    assert f"{specs}/nvidia.json, {specs}/two.json all define the device" in failure(result, 1)


def test_a_device_node_that_is_not_on_this_host(specs: str, config: Path) -> None:
    (Path(specs) / "node.json").write_text(
        '{"cdiVersion": "0.5.0", "kind": "v.com/b", "devices": [{"name": "0", '
        '"containerEdits": {"deviceNodes": [{"path": "/dev/no-such-node"}]}}]}'
    )
    result = cdi_gen("inject", "--device", "v.com/b=0", "--spec-dir", specs, "-i", str(config))
    assert "needs '/dev/no-such-node' of the host: No such file or directory" in failure(result, 1)
    assert json.loads(config.read_text()) == CONFIG


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"ociVersion": "1", "a": NaN}', "NaN is not a JSON number"),
        (b'{"ociVersion": "1", "a": {"b": 1, "b": 2}}', "duplicate key 'b'"),
        (b"[]", "is not an OCI runtime configuration: no 'ociVersion'"),
        (b'{"Config": {"Env": []}}', "is not an OCI runtime configuration"),
        (b'{"ociVersion": 1}', "is not an OCI runtime configuration"),
        (b'{"ociVersion": "1", "process": []}', "config.json: 'process' is not an object"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_configuration_that_is_none(specs: str, config: Path, text: bytes, said: str) -> None:
    config.write_bytes(text)
    words = ("inject", "--device", "v.com/a=0", "--spec-dir", specs, "--in-place")
    assert said in failure(cdi_gen(*words, str(config)), 1)
    assert config.read_bytes() == text


def test_no_configuration(specs: str, tmp_path: Path) -> None:
    words = ("inject", "--device", "v.com/a=0", "--spec-dir", specs)
    said = failure(cdi_gen(*words, str(tmp_path)), 1)
    assert f"cannot read {tmp_path}/config.json: No such file or directory" in said
    assert "runc spec" in said


@pytest.mark.parametrize("words", [("-i", "-"), ("-i", "-o", "/tmp/x", "."), ()])
def test_words_that_make_no_sense(specs: str, words: tuple[str, ...]) -> None:
    device = ("--device", "v.com/a=0") if words else ()
    failure(cdi_gen("inject", *device, "--spec-dir", specs, *words, input=b"{}"), 2)


def test_a_directory_that_takes_no_file(specs: str, config: Path) -> None:
    words = ("inject", "--device", "v.com/a=0", "--spec-dir", specs, str(config))
    assert "cannot write /proc/x: " in failure(cdi_gen(*words, "-o", "/proc/x"), 1)
