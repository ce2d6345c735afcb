# SPDX-License-Identifier: Apache-2.0
"""Text and specs: what is written, what is read, and where the faults are."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
