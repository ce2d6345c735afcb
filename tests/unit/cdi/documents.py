# SPDX-License-Identifier: Apache-2.0
"""Documents with one thing wrong each (or nothing), shared by the tests of reading and judging."""

from __future__ import annotations

import copy
from typing import Any

GOOD: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "vendor.example/gpu",
    "devices": [
        {
            "name": "0",
            "containerEdits": {
                "deviceNodes": [
                    {
                        "path": "/dev/gpu0",
                        "hostPath": "/host/dev/gpu0",
                        "type": "c",
                        "major": 195,
                        "minor": 0,
                        "fileMode": 438,
                        "permissions": "rw",
                        "uid": 0,
                        "gid": 44,
                    }
                ]
            },
        }
    ],
    "containerEdits": {
        "env": ["A=b"],
        "hooks": [
            {
                "hookName": "createContainer",
                "path": "/usr/bin/hook",
                "args": ["hook", "run"],
                "env": ["PATH=/usr/bin"],
                "timeout": 10,
            }
        ],
        "mounts": [
            {
                "hostPath": "/usr/lib/libgpu.so.1",
                "containerPath": "/usr/lib/libgpu.so.1",
                "options": ["ro", "rbind"],
                "type": "bind",
            }
        ],
    },
}


class Absent:
    """The value of a key that is taken out."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good document with ``value`` at a dotted path, or without what was there."""
    document = copy.deepcopy(GOOD)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = document
    for step in way:
        place = place[step] if isinstance(step, int) else place.setdefault(step, {})
    if value is ABSENT:
        del place[last]
    elif isinstance(last, int) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return document


_NODE = "devices.0.containerEdits.deviceNodes.0"
_HOOK = "containerEdits.hooks.0"
_MOUNT = "containerEdits.mounts.0"

FATAL: tuple[tuple[str, Any], ...] = (
    ("cdiVersion", ABSENT),
    ("cdiVersion", ""),
    ("cdiVersion", "0.9.0"),
    ("cdiVersion", "1.2.0"),
    ("cdiVersion", "0.5"),
    ("cdiVersion", 0),
    ("cdiVersion", 0.5),
    ("kind", 5),
    ("containerEdits.env", [5]),
    ("cdiVersion", "vv0.5.0"),
    ("cdiVersion", "0.4.0"),
    ("cdiVersion", "0.2.0"),
    ("cdiVersion", ["0.5.0"]),
    ("kind", ABSENT),
    ("kind", "gpu"),
    ("kind", "vendor.example/"),
    ("kind", "/gpu"),
    ("kind", "1vendor/gpu"),
    ("kind", "vendor./gpu"),
    ("kind", "vendor/gpu/0"),
    ("kind", "vendor/g pu"),
    ("kind", "vendor/gpü"),
    ("kind", "v.example/g.pu"),
    ("annotations", {"a": "b"}),
    ("annotations", ["a"]),
    ("annotations", {"a": ["b"]}),
    ("devices", {}),
    ("devices.0", "0"),
    ("devices.1", GOOD["devices"][0]),
    ("devices.0.name", ABSENT),
    ("devices.0.name", ""),
    ("devices.0.name", "-0"),
    ("devices.0.name", "0:"),
    ("devices.0.name", "gpu 0"),
    ("devices.0.name", "gpu=0"),
    ("devices.0.name", "gpu/0"),
    ("devices.0.containerEdits", ABSENT),
    ("devices.0.containerEdits", {}),
    ("devices.0.containerEdits", {"env": []}),
    ("devices.0.containerEdits", None),
    ("containerEdits", []),
    ("unknown", 1),
    ("containerEdits.unknown", 1),
    ("devices.0.unknown", 1),
    (f"{_NODE}.unknown", 1),
    (f"{_NODE}.path", ABSENT),
    (f"{_NODE}.path", ""),
    (f"{_NODE}.type", "d"),
    (f"{_NODE}.type", "cc"),
    (f"{_NODE}.major", "195"),
    (f"{_NODE}.major", 2**63),
    (f"{_NODE}.major", True),
    (f"{_NODE}.permissions", "rwx"),
    (f"{_NODE}.permissions", "all"),
    (f"{_NODE}.fileMode", -1),
    (f"{_NODE}.fileMode", "0666"),
    (f"{_NODE}.uid", -1),
    (f"{_NODE}.gid", 2**32),
    (f"{_HOOK}.hookName", ABSENT),
    (f"{_HOOK}.hookName", "createcontainer"),
    (f"{_HOOK}.path", ABSENT),
    (f"{_HOOK}.path", ""),
    (f"{_HOOK}.args", "hook"),
    (f"{_HOOK}.env", ["PATH"]),
    (f"{_HOOK}.env", ["=/usr/bin"]),
    (f"{_HOOK}.timeout", "10"),
    (f"{_MOUNT}.hostPath", ABSENT),
    (f"{_MOUNT}.hostPath", ""),
    (f"{_MOUNT}.containerPath", ABSENT),
    (f"{_MOUNT}.options", "ro"),
    (f"{_MOUNT}.options", [["ro"]]),
    (f"{_MOUNT}.source", "/"),
    ("containerEdits.env", ["A"]),
    ("containerEdits.env", ["=b"]),
    ("containerEdits.env", [""]),
    ("containerEdits.env", "A=b"),
    ("containerEdits.env", {"A": "b"}),
    ("containerEdits.mounts.0", None),
    ("containerEdits.additionalGids", [44]),
    ("containerEdits.additionalGids", ["44"]),
    ("containerEdits.intelRdt", {}),
    ("containerEdits.intelRdt", {"schemata": []}),
    ("containerEdits.netDevices", [{"hostInterfaceName": "a", "name": "b"}]),
)
"""Each alone makes every engine ignore the file."""

_AT_1_1 = {**GOOD, "cdiVersion": "1.1.0"}


def _newest(edits: dict[str, Any]) -> dict[str, Any]:
    return {**_AT_1_1, "containerEdits": edits}


FATAL_WHOLE: tuple[tuple[str, Any], ...] = (
    ("null", None),
    ("a list", []),
    ("text", "vendor.example/gpu"),
    ("a number", 5),
    ("closID a path", _newest({"intelRdt": {"closID": "a/b"}})),
    ("closID ..", _newest({"intelRdt": {"closID": ".."}})),
    ("closID with a newline", _newest({"intelRdt": {"closID": "a\nb"}})),
    ("closID of 4096", _newest({"intelRdt": {"closID": "a" * 4096}})),
    ("net device unnamed", _newest({"netDevices": [{"hostInterfaceName": "a", "name": ""}]})),
    ("net device without host", _newest({"netDevices": [{"name": "a"}]})),
    (
        "net device twice",
        _newest({"netDevices": [{"hostInterfaceName": "a", "name": n} for n in "bc"]}),
    ),
    (
        "net name twice",
        _newest({"netDevices": [{"hostInterfaceName": h, "name": "a"} for h in "bc"]}),
    ),
)

_BY_JSON = ("0.5.4", "0.6.2", "0.7.2", "0.8.1", "1.0.1", "1.1.0")

PARTLY: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    (f"{_NODE}.hostpath", "/dev/null", ("1.1.1",)),
    ("Kind", "vendor.example/gpu", ("1.1.1",)),
    ("containerEdits.ENV", ["A=b"], ("1.1.1",)),
    ("annotations", {}, ("0.5.4",)),
    ("containerEdits.additionalGids", [], ("0.5.4", "0.6.2")),
    ("containerEdits.intelRdt", None, ("0.5.4", "0.6.2")),
    ("containerEdits.netDevices", [], _BY_JSON[:-1]),
    ("containerEdits.env", ["A=b", None], _BY_JSON),
    ("devices", ABSENT, ("1.0.1", "1.1.0", "1.1.1")),
    ("devices", [], ("1.0.1", "1.1.0", "1.1.1")),
    ("devices", None, ("1.0.1", "1.1.0", "1.1.1")),
    ("devices.1", None, _BY_JSON),
    (f"{_NODE}.permissions", "none", _BY_JSON),
    ("kind", "a/b", _BY_JSON),
    ("kind", "vendor.example/b", _BY_JSON),
    ("devices.0.name", 10**22, _BY_JSON),
)
"""Each alone makes these releases of the library, and so their engines, ignore the file."""

_AT_0_7 = {**GOOD, "cdiVersion": "0.7.0"}

PARTLY_WHOLE: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    (
        "enableCMT",
        {**_AT_0_7, "containerEdits": {"intelRdt": {"enableCMT": True}}},
        ("0.5.4", "0.6.2", "1.1.0", "1.1.1"),
    ),
    (
        "enableMBM null",
        {**_AT_0_7, "containerEdits": {"intelRdt": {"enableMBM": None}}},
        ("0.5.4", "0.6.2", "1.1.0", "1.1.1"),
    ),
    (
        "closID /",
        {**_AT_0_7, "containerEdits": {"intelRdt": {"closID": "/"}}},
        _BY_JSON[:-1],
    ),
    (
        "enableMonitoring text",
        {**GOOD, "cdiVersion": "1.1.0", "containerEdits": {"intelRdt": {"enableMonitoring": "y"}}},
        _BY_JSON,
    ),
)

ACCEPTED: tuple[tuple[str, Any], ...] = (
    ("cdiVersion", "1.0.0"),
    ("cdiVersion", "v0.5.0"),
    ("kind", "vendor_1.example-2/gpu_3-4"),
    ("devices.0.name", "GPU-1f-2_3.4:5"),
    ("devices.0.name", "0:1"),
    ("containerEdits", ABSENT),
    ("containerEdits", {}),
    ("containerEdits", None),
    ("containerEdits.env", []),
    ("containerEdits.env", None),
    ("containerEdits.env", ["A=", "B==", "C=d=e"]),
    (f"{_NODE}.type", ABSENT),
    (f"{_NODE}.type", "u"),
    (f"{_NODE}.major", ABSENT),
    (f"{_NODE}.major", None),
    (f"{_NODE}.permissions", "mwr"),
    (f"{_NODE}.permissions", ""),
    (f"{_NODE}.path", "dev/gpu0"),
    (f"{_HOOK}.path", "hook"),
    (f"{_HOOK}.env", ABSENT),
    (f"{_HOOK}.args", ABSENT),
    (f"{_HOOK}.timeout", 0),
    (f"{_HOOK}.timeout", -1),
    (f"{_MOUNT}.options", ABSENT),
    (f"{_MOUNT}.type", "tmpfs"),
    (f"{_MOUNT}.type", ABSENT),
    ("devices.0.name", 0),
    ("devices.0.name", 1.5),
    ("containerEdits.hooks.0.args", ["hook", 1, True]),
    (f"{_NODE}.major", 195.0),
)
"""What the standard's library lets pass, wise or not."""

ACCEPTED_WHOLE: tuple[tuple[str, Any], ...] = (
    ("as it is", GOOD),
    ("additionalGids", {**_newest({"additionalGids": [0, 44]}), "cdiVersion": "0.7.0"}),
    ("intelRdt", {**_newest({"intelRdt": {}}), "cdiVersion": "0.7.0"}),
    ("closID /", _newest({"intelRdt": {"closID": "/"}})),
    ("closID of 4095", _newest({"intelRdt": {"closID": "a" * 4095}})),
    ("monitoring", _newest({"intelRdt": {"enableMonitoring": True, "schemata": ["L3:0=f"]}})),
    ("net devices", _newest({"netDevices": [{"hostInterfaceName": n, "name": n} for n in "ab"]})),
    ("dotted class", {**GOOD, "cdiVersion": "0.6.0", "kind": "a.b/c.d"}),
    ("annotations", {**GOOD, "cdiVersion": "0.6.0", "annotations": {"a b": "c"}}),
    ("mount type without version", {**GOOD, "cdiVersion": "0.8.0"}),
)
