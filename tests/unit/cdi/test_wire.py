# SPDX-License-Identifier: Apache-2.0
"""Text and specs: what is written, what is read, and where the faults are."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cdi_base.cdi.fields import MAX_FAULTS
from cdi_base.cdi.words import WORDS, PlainWord
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import (
    ContainerEdits,
    Device,
    DeviceNode,
    Hook,
    IntelRdt,
    Mount,
    NetDevice,
    Spec,
)
from cdi_gen.cdi.problem import SpecError
from cdi_gen.errors import ExitCode

from . import documents

REPOSITORY = Path(__file__).parents[3]
REFERENCE = REPOSITORY / "tests/parity/reference"

FULL = Spec(
    cdi_version="1.1.0",
    kind="vendor.example/gpu",
    annotations=(("what", "everything"),),
    devices=(
        Device(
            name="0",
            annotations=(("a", "b"),),
            container_edits=ContainerEdits(
                device_nodes=(
                    DeviceNode(
                        path="/dev/gpu0",
                        host_path="/host/dev/gpu0",
                        type="c",
                        major=195,
                        minor=0,
                        file_mode=0o666,
                        permissions="rw",
                        uid=0,
                        gid=44,
                    ),
                )
            ),
        ),
        Device(name="1", container_edits=ContainerEdits(env=("ONE=1",))),
    ),
    container_edits=ContainerEdits(
        env=("A=b",),
        net_devices=(NetDevice(host_interface_name="eth1", name="gpu"),),
        hooks=(
            Hook(
                hook_name="createContainer",
                path="/usr/bin/hook",
                args=("hook", "run"),
                env=("PATH=/usr/bin",),
                timeout=10,
            ),
        ),
        mounts=(
            Mount(host_path="/a", container_path="/b", options=("ro", "rbind"), type="bind"),
            Mount(host_path="/c", container_path="/d"),
        ),
        intel_rdt=IntelRdt(
            clos_id="c",
            l3_cache_schema="l",
            mem_bw_schema="m",
            schemata=("s",),
            enable_monitoring=True,
        ),
        additional_gids=(44, 0),
    ),
)

FULL_JSON = """\
{
  "cdiVersion": "1.1.0",
  "kind": "vendor.example/gpu",
  "annotations": {"what": "everything"},
  "devices": [
    {
      "name": "0",
      "annotations": {"a": "b"},
      "containerEdits": {
        "deviceNodes": [
          {"path": "/dev/gpu0", "hostPath": "/host/dev/gpu0", "type": "c", "major": 195, "minor": 0, \
"fileMode": 438, "permissions": "rw", "uid": 0, "gid": 44}
        ]
      }
    },
    {
      "name": "1",
      "containerEdits": {
        "env": [
          "ONE=1"
        ]
      }
    }
  ],
  "containerEdits": {
    "env": [
      "A=b"
    ],
    "netDevices": [
      {"hostInterfaceName": "eth1", "name": "gpu"}
    ],
    "hooks": [
      {"hookName": "createContainer", "path": "/usr/bin/hook", "args": ["hook", "run"], \
"env": ["PATH=/usr/bin"], "timeout": 10}
    ],
    "mounts": [
      {"hostPath": "/a", "containerPath": "/b", "options": ["ro", "rbind"], "type": "bind"},
      {"hostPath": "/c", "containerPath": "/d"}
    ],
    "intelRdt": {"closID": "c", "l3CacheSchema": "l", "memBwSchema": "m", "schemata": ["s"], \
"enableMonitoring": true},
    "additionalGids": [
      44,
      0
    ]
  }
}
"""


def test_json_has_the_order_of_the_standard_and_one_edit_a_line() -> None:
    assert wire.dump(FULL) == FULL_JSON
    assert wire.load(FULL_JSON) == FULL


def test_yaml_quotes_what_is_not_plainly_text() -> None:
    spec = Spec(
        cdi_version="0.5.0",
        kind="vendor.example/gpu",
        devices=(Device(name="0:1", container_edits=ContainerEdits(env=("A=12e3", "on", "on a"))),),
    )
    assert wire.dump(spec, "yaml") == (
        "---\n"
        'cdiVersion: "0.5.0"\n'
        "kind: vendor.example/gpu\n"
        "devices:\n"
        '- name: "0:1"\n'
        "  containerEdits:\n"
        "    env:\n"
        "    - A=12e3\n"
        '    - "on"\n'
        '    - "on a"\n'
    )


def test_what_is_absent_is_not_written() -> None:
    spec = Spec(cdi_version="0.3.0", kind="a/b", devices=(Device(name="c"),))
    assert wire.to_document(spec) == {
        "cdiVersion": "0.3.0",
        "kind": "a/b",
        "devices": [{"name": "c", "containerEdits": {}}],
    }


def test_a_document_is_the_callers_own() -> None:
    spec = wire.from_document(documents.GOOD)
    wire.to_document(spec)["devices"].clear()
    assert wire.to_document(spec) == documents.GOOD


@pytest.mark.parametrize("value", ["💥", "\\💥", "\\\\ud83d💥", "é\u2028\ufeff\x7f", "\\ud83d"])
def test_json_never_writes_half_of_a_pair(value: str) -> None:
    spec = Spec(cdi_version="0.3.0", kind=value, devices=())
    text = wire.dump(spec)
    assert wire.load(text) == spec
    assert json.loads(text)["kind"] == value
    assert ("💥" in text) == ("💥" in value)


@pytest.fixture(params=["libyaml", "Python"])
def either_yaml(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML with libyaml, and as it is where that was not built in."""
    if request.param == "Python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)


def test_real_specs_load_and_come_through_unchanged() -> None:
    specs = [*REFERENCE.glob("nvidia_ctk/*.json"), *REFERENCE.glob("public/*.yaml")]
    assert len(specs) == 12
    for path in specs:
        spec = wire.load(path.read_bytes())
        assert spec.devices, path
        for text_format in ("json", "yaml"):
            assert wire.load(wire.dump(spec, text_format)) == spec, path
        if path.suffix == ".json":
            assert wire.to_document(spec) == json.loads(path.read_text()), path


def _large() -> Spec:
    edits = ContainerEdits(
        mounts=tuple(
            Mount(
                host_path=f"/usr/lib/x86_64-linux-gnu/libnvidia-{n}.so.550.163.01",
                container_path=f"/usr/lib/x86_64-linux-gnu/libnvidia-{n}.so.550.163.01",
                options=("ro", "nosuid", "nodev", "rbind", "rprivate"),
            )
            for n in range(300)
        )
    )
    return Spec(cdi_version="0.5.0", kind="a/b", devices=(Device(name="0", container_edits=edits),))


def test_writing_60_kb_of_json_takes_a_few_milliseconds() -> None:
    spec = _large()
    assert len(wire.dump(spec)) > 60_000

    def timed() -> float:
        start = time.perf_counter()
        wire.dump(spec)
        return time.perf_counter() - start

    # 1.3 ms on one core of 2020; json's own indent= takes 12.
    assert min(timed() for _ in range(20)) < 0.006


def test_json_needs_neither_yaml_nor_jsonschema() -> None:
    program = (
        "import sys; from cdi_gen.cdi import wire;"
        f"wire.dump(wire.load({json.dumps(documents.GOOD)!r}));"
        "print(sorted({'yaml', 'jsonschema', 'importlib.resources', 'difflib', 'pathlib'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=REPOSITORY,
        env={"PYTHONPATH": ".:hooks:specs"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("escape", ["\\U00110000", "\\UFFFFFFFF", "\\uD800"])
def test_an_escape_of_no_character_is_refused(escape: str, either_yaml: None) -> None:
    # PyYAML without libyaml hands them to chr(), which raises ValueError or OverflowError.
    with pytest.raises(SpecError):
        wire.load(f'kind: "{escape}"')


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("containerEdits.mounts.0.hostPath", documents.ABSENT, "hostPath: missing"),
        ("cdiVersion", documents.ABSENT, ".cdiVersion: missing"),
        ("devices.0.name", {}, ".devices[0].name: must be text, not an object"),
        ("devices", {}, ".devices: must be a list, not an object"),
        ("devices.0", "a", ".devices[0]: must be an object, not text"),
        ("annotations", {"a": 1.5}, None),
        ("annotations", {"a": []}, ".annotations.a: must be text, not a list"),
        ("device", 1, ".device: unknown field; did you mean 'devices'?"),
        ("container_edits", {}, ".container_edits: unknown field; did you mean 'containerEdits'?"),
        ("zzz", 1, ".zzz: unknown field"),
        (
            "devices.0.containerEdits.deviceNodes.0.major",
            "195",
            ".devices[0].containerEdits.deviceNodes[0].major: must be a whole number, not text",
        ),
        (
            "devices.0.containerEdits.deviceNodes.0.uid",
            -1,
            ".devices[0].containerEdits.deviceNodes[0].uid: -1 is not between 0 and 4294967295",
        ),
        ("containerEdits.env", ["A=b", []], ".containerEdits.env[1]: must be text, not a list"),
        ("containerEdits.intelRdt", {"enableMonitoring": 1}, "must be true or false, not a number"),
        ("containerEdits.env", ["A=\ud800"], ".containerEdits.env[0]: is not Unicode text"),
    ],
)
def test_reading_says_where_and_what(path: str, value: object, problem: str | None) -> None:
    document = documents.changed(path, value)
    if problem is None:
        wire.from_document(document)
        return
    with pytest.raises(SpecError) as error:
        wire.from_document(document)
    assert problem in str(error.value)
    assert error.value.exit_code == ExitCode.INVALID_SPEC


def test_all_problems_are_reported_at_once_in_order() -> None:
    document = documents.changed("kind", documents.ABSENT)
    document["devices"].append({"name": 5, "containerEdits": {"env": [[]], "mounts": [{}]}})
    with pytest.raises(SpecError) as error:
        wire.from_document(document)
    assert [problem.path for problem in error.value.problems] == [
        ".kind",
        ".devices[1].containerEdits.env[0]",
        ".devices[1].containerEdits.mounts[0].hostPath",
        ".devices[1].containerEdits.mounts[0].containerPath",
    ]


def test_null_is_an_absent_field() -> None:
    document = documents.changed("containerEdits.env", None)
    assert wire.from_document(document).container_edits.env == ()


@pytest.mark.parametrize(("written", "read"), [(0, "0"), (True, "true"), (1.5, "1.5"), (-3, "-3")])
def test_a_number_where_text_belongs_is_taken_as_text(written: bool | float, read: str) -> None:
    assert wire.from_document(documents.changed("devices.0.name", written)).devices[0].name == read


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (b"\xff", "byte 0", "not UTF-8"),
        (b'{"kind": "\xe9"}', "byte 10", "not UTF-8"),
        ('{"kind": "a/b",\n "devices": [}', "line 2, column 14", ""),
        ("kind: a/b\ndevices: [\n", "line 3, column 1", ""),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "line 4, column 3", "duplicate key 'c'"),
        ('{"a": 1,\n "a": 2}', "line 2, column 2", "duplicate key 'a'"),
        ("a: *b", "line 1, column 4", "alias *b refers to no anchor"),
        ("a: !!python/name:os.system b", "line 1, column 4", "is not allowed in a spec"),
        ("a: !!binary b", "line 1, column 4", "not base64 of UTF-8 text"),
        ("a: {<<: 1}", "line 1, column 9", "<< must name a mapping"),
        ('{"a": "b\\/"}', "line 1, column 7", "has \\/, which YAML does not know"),
        ("%YAML 1.2\n---\na: 1", "line 1, column 1", "engines read YAML 1.1"),
        ("? [a]\n: b", "line 1, column 3", "a key must be text"),
        ("a: " + "[" * 100, "line 1, column 67", "nested more than 64 deep"),
        ("a: \x07", "line 1, column 4", "a character that YAML does not allow"),
        (" " * (wire.MAX_SIZE + 1), "", "more than 4194304 bytes"),
    ],
)
def test_faults_of_the_text_have_a_line_and_a_column(
    text: bytes | str, place: str, message: str, either_yaml: None
) -> None:
    with pytest.raises(SpecError) as error:
        wire.load(text)
    assert error.value.problems[0].path == place
    assert message in error.value.problems[0].message


def test_a_byte_order_mark_is_skipped() -> None:
    text = json.dumps(documents.GOOD)
    assert wire.load("\ufeff" + text) == wire.load(b"\xef\xbb\xbf" + text.encode())


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("0", 0),
        ("0666", 438),
        ("0o666", 438),
        ("0xff", 255),
        ("0b11", 3),
        ("1_000", 1000),
        ("-7", -7),
        ("1.5", 1.5),
        ("12e3", 12000.0),
        ("true", True),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("1:0", "1:0"),
        ("2001-01-01", "2001-01-01"),
        (".inf", ".inf"),
        ("09", 9.0),
        ("-", "-"),
        ("0.5.0", "0.5.0"),
        ("9" * 31, "9" * 31),
        ("'0'", "0"),
        ("!!str 0", "0"),
        ("!!int '7'", 7),
    ],
)
def test_plain_scalars_are_what_they_are_to_engines(
    plain: str, value: bool | float | str | None, either_yaml: None
) -> None:
    read: Any = wire.parse(f"a: {plain}\nb: c" if plain != "-" else "a: -x\nb: c")
    assert read["a"] == (value if plain != "-" else "-x")
    assert type(read["a"]) is (PlainWord if value in WORDS else type(value))


def test_anchors_are_followed() -> None:
    assert wire.parse("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


def test_a_small_text_that_stands_for_a_huge_document_is_refused_quickly() -> None:
    lines = ["e: &e [" + ",".join(["A=b"] * 2000) + "]", "cdiVersion: '0.3.0'", "kind: a/b"]
    lines += ["devices:"] + ["- {name: a, containerEdits: {env: *e}}"] * 2000
    start = time.perf_counter()
    with pytest.raises(SpecError, match="stands for more than"):
        wire.load("\n".join(lines))
    assert time.perf_counter() - start < 10


def test_the_number_of_problems_is_bounded() -> None:
    with pytest.raises(SpecError) as error:
        wire.load(json.dumps({str(n): n for n in range(100_000)}))
    assert len(error.value.problems) <= MAX_FAULTS + 1
    assert len(str(error.value)) < 5000
