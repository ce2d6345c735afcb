# SPDX-License-Identifier: Apache-2.0
"""``show``: what a device gives a container, from an installed spec or an inventory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdi_gen.cdi.wire import Format, dump, load
from tests.cli.program import INVENTORY, SPEC, UUID, cdi_gen


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_show_as_a_spec_of_one_device(form: Format) -> None:
    found = cdi_gen("show", UUID, "--inventory", INVENTORY, "-o", form)
    spec = load(found.out)
    assert [device.name for device in spec.devices] == [UUID]
    assert spec.container_edits == load(SPEC).container_edits
    assert found.out == dump(spec, form)


NODE = {"path": "/dev/x"}


@pytest.mark.parametrize(
    ("edits", "line"),
    [
        # As amd-ctk writes /dev/kfd, and vfio plugins their groups: numbers are the host's.
        ({"deviceNodes": [{"path": "/dev/kfd"}]}, "device  /dev/kfd  as on the host  rwm"),
        (
            {"deviceNodes": [{"path": "/dev/vfio/vfio", "permissions": "mrw", "gid": 44}]},
            "device  /dev/vfio/vfio  as on the host  mrw  gid 44",
        ),
        (
            {"deviceNodes": [NODE | {"type": "c", "hostPath": "/dev/accel/accel0"}]},
            "device  /dev/x  c as on the host  rwm  from /dev/accel/accel0",
        ),
        (
            {"deviceNodes": [NODE | {"type": "b", "major": 8, "fileMode": 0o640, "uid": 0}]},
            "device  /dev/x  b 8:0  rwm  mode 0640  uid 0",
        ),
        ({"deviceNodes": [NODE | {"type": "p"}]}, "device  /dev/x  p  rwm"),
        (
            {"netDevices": [{"hostInterfaceName": "ens1f0v3", "name": "rdma0"}]},
            "net     rdma0  from ens1f0v3",
        ),
        (
            {"intelRdt": {"closID": "gold", "schemata": ["L3:0=ff", "MB:0=50"]}},
            "rdt     closID gold  schemata L3:0=ff, MB:0=50",
        ),
        ({"intelRdt": {}}, "rdt     a group of its own"),
        (
            {"mounts": [{"hostPath": "tmpfs", "containerPath": "/scratch", "type": "tmpfs",
                         "options": ["nosuid", "size=64m"]}]},
            "mount   /scratch  a new tmpfs  (writable, size=64m)",
        ),
        (
            {"mounts": [{"hostPath": "/opt/habana", "containerPath": "/opt/habana", "type": "none",
                         "options": ["rbind", "ro", "exec"]}]},
            "mount   /opt/habana  (exec)",
        ),
        (
            {"hooks": [{"hookName": "createRuntime", "path": "/usr/bin/tool", "timeout": 5}]},
            "hook    createRuntime: /usr/bin/tool (at most 5 s)",
        ),
        (
            {"hooks": [{"hookName": "prestart", "path": "/opt/h", "args": ["other", "-x"]}]},
            "hook    prestart: /opt/h -x (as other)",
        ),
        ({"env": ["A=\u001b[31m\nmount   /etc"]}, "env     A=\\x1b[31m\\nmount   /etc"),
    ],
)  # fmt: skip
def test_show_tells_all_that_any_vendors_spec_gives(
    tmp_path: Path, edits: object, line: str
) -> None:
    document = {
        "cdiVersion": "1.1.0",
        "kind": "vendor.example/thing",
        "devices": [{"name": "a", "containerEdits": edits}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    found = cdi_gen("show", "vendor.example/thing=a", "--spec-dir", str(tmp_path))
    assert found.code == 0
    assert found.out.splitlines()[1:] == [line]
