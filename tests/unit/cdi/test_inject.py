# SPDX-License-Identifier: Apache-2.0
"""`inject` for those who call it: what it leaves alone, what it asks for, how it says no.

What it makes is held against the standard's own library: tests/parity/injection, tests/golden.
"""

from __future__ import annotations

import copy
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cdi_base.cdi import injection
from cdi_base.errors import HookError
from cdi_base.json_object import DocumentError
from cdi_gen.cdi.inject import InjectError, NodeStatus, UnresolvedError, inject, look_at
from cdi_gen.cdi.model import ContainerEdits, Device, DeviceNode, Mount, Spec

CONFIG: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {"user": {"uid": 1000, "gid": 100}, "env": ["A=old"], "cwd": "/", "x": {"y": [1]}},
    "mounts": [{"destination": "/a/b", "x": None}, {"destination": "/a"}],
    "linux": {"resources": {"x": 1}, "x": []},
    "x": {"a field": "that nobody knows"},
}


def spec(*devices: Device, kind: str = "v.com/a", **edits: Any) -> Spec:
    common = ContainerEdits(**edits)
    return Spec(cdi_version="0.5.0", kind=kind, devices=devices, container_edits=common)


def device(name: str, **edits: Any) -> Device:
    return Device(name=name, container_edits=ContainerEdits(**edits))


def untouchable(path: str) -> NodeStatus:
    raise AssertionError(path)


def absent(path: str) -> NodeStatus:
    raise PermissionError(13, "Permission denied", path)


ONE = spec(
    device("0", env=("A=new",), mounts=(Mount(host_path="/h", container_path="/c/d"),)),
    env=("B=b",),
)


def test_the_configuration_given_is_not_changed() -> None:
    before = copy.deepcopy(CONFIG)
    edited = inject(CONFIG, ["v.com/a=0"], [ONE])
    assert before == CONFIG
    edited["process"]["x"]["y"].append(2)
    edited["mounts"].clear()
    assert before == CONFIG
    assert inject(CONFIG, ["v.com/a=0"], [ONE])["process"]["env"] == ["A=new", "B=b"]


def test_what_nobody_knows_stays() -> None:
    edited = inject(CONFIG, ["v.com/a=0"], [ONE])
    assert edited["x"] == CONFIG["x"]
    assert edited["process"]["x"] == {"y": [1]}
    assert edited["linux"] == CONFIG["linux"]
    assert edited["mounts"] == [
        {"destination": "/a"},
        {"destination": "/a/b", "x": None},
        {"destination": "/c/d", "source": "/h"},
    ]


def test_a_container_shares_nothing_with_the_spec() -> None:
    """Or the next container of a program that stays up would get the edits of this one."""
    document = {"containerEdits": {"env": ["A=a"], "mounts": [{"containerPath": "/m"}]}}
    document["containerEdits"]["hooks"] = [{"hookName": "prestart", "path": "/h", "args": ["h"]}]
    before = copy.deepcopy(document)
    config: dict[str, Any] = {}
    injection.apply(config, [document["containerEdits"]])
    config["mounts"][0]["options"] = ["ro"]
    config["hooks"]["prestart"][0]["args"].append("x")
    config["process"]["env"].append("B=b")
    assert document == before


def test_names_that_are_not_there_are_all_named() -> None:
    one, two = spec(device("0", env=("A=1",))), spec(device("0", env=("A=2",)))
    with pytest.raises(UnresolvedError) as caught:
        inject(CONFIG, ["v.com/a=9", "v.com/a=0", "x\n", "v.com/a=9"], [one, two])
    assert caught.value.absent == ("v.com/a=9", "x\n")
    assert caught.value.conflicting == ("v.com/a=0",)
    message = caught.value.message
    assert "no CDI spec defines 'v.com/a=9', 'x\\n'" in message
    assert "more than one CDI spec of a directory defines 'v.com/a=0'" in message


def test_a_spec_in_two_directories_is_no_conflict() -> None:
    assert inject(CONFIG, ["v.com/a=0"], [ONE], [ONE]) == inject(CONFIG, ["v.com/a=0"], [ONE])


def test_a_complete_node_needs_nothing_of_the_host() -> None:
    node = DeviceNode(path="/dev/x", type="c", major=195, minor=3, file_mode=0o666)

    edited = inject({}, ["v.com/a=0"], [spec(device("0", device_nodes=(node,)))], look=absent)
    assert edited["linux"]["devices"] == [
        {"path": "/dev/x", "type": "c", "major": 195, "minor": 3, "fileMode": 0o666}
    ]


def test_without_nodes_the_host_is_not_looked_at() -> None:
    inject(CONFIG, ["v.com/a=0"], [ONE], look=untouchable)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (ValueError("embedded null byte"), "not a path"),
        (None, "not a device node"),
    ],
)
def test_a_node_that_is_needed(fault: Exception | None, reason: str) -> None:
    def look(path: str) -> NodeStatus:
        if fault:
            raise fault
        return NodeStatus("", 0, 0, 0o644)

    node = DeviceNode(path="/dev/x", host_path="/host\x1b")
    with pytest.raises(InjectError) as caught:
        inject({}, ["v.com/a=0"], [spec(device("0", device_nodes=(node,)))], look=look)
    assert caught.value.message == f"device node '/dev/x' needs '/host\\x1b' of the host: {reason}"


def test_a_node_of_another_type() -> None:
    node = DeviceNode(path="/dev/x", type="b")
    with pytest.raises(
        InjectError, match=r"'/dev/x' is of type b .* '/dev/x' of the host of type c"
    ):
        inject(
            {},
            ["v.com/a=0"],
            [spec(device("0", device_nodes=(node,)))],
            look=lambda _: NodeStatus("c", 1, 3, 0o666),
        )


def test_looking_at_the_host(tmp_path: Path) -> None:
    null = look_at("/dev/null")
    assert (null.type, null.major, null.minor) == ("c", 1, 3)
    assert null.mode == stat.S_IMODE(os.lstat("/dev/null").st_mode)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "fifo").chmod(0o6640)
    assert (look_at(f"{tmp_path}/fifo").type, look_at(f"{tmp_path}/fifo").mode) == ("p", 0o6640)
    (tmp_path / "link").symlink_to("/dev/null")
    assert [look_at(path).type for path in (str(tmp_path), f"{tmp_path}/link")] == ["", ""]
    with pytest.raises(FileNotFoundError):
        look_at(f"{tmp_path}/absent")


EDITS = {
    "env": ["A=b"],
    "deviceNodes": [{"path": "/dev/x", "type": "c", "major": 1}],
    "netDevices": [{"hostInterfaceName": "eth0", "name": "e"}],
    "mounts": [{"containerPath": "/m", "hostPath": "/h"}],
    "hooks": [{"hookName": "prestart", "path": "/h"}],
    "intelRdt": {"closID": "a"},
    "additionalGids": [44],
}


@pytest.mark.parametrize(
    "config",
    [
        {"process": []},
        {"process": "x"},
        {"process": {"env": {}}},
        {"process": {"user": []}},
        {"process": {"user": {"uid": "0"}}},
        {"process": {"user": {"additionalGids": 1}}},
        {"linux": []},
        {"linux": {"devices": {}}},
        {"linux": {"resources": 1}},
        {"linux": {"resources": {"devices": "x"}}},
        {"linux": {"namespaces": ["user"]}},
        {"linux": {"netDevices": []}},
        {"mounts": {}},
        {"mounts": [{"destination": 1}]},
        {"hooks": []},
        {"hooks": {"prestart": {}}},
    ],
    ids=str,
)
def test_a_configuration_of_another_shape_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(DocumentError, match=r"config\.json: '\w+' is not "):
        injection.apply(config, [EDITS])


@pytest.mark.parametrize(
    "edits",
    [
        *({key: 1} for key in EDITS),
        *({key: [1.5]} for key in EDITS),
        {"env": [["A"]]},
        {"deviceNodes": [{"path": 1}]},
        {"deviceNodes": [{"path": "/x", "type": "c", "major": True}]},
        {"deviceNodes": [{"path": "/x", "type": "c", "major": 1, "uid": "0"}]},
        {"mounts": [{"options": "ro"}]},
        {"hooks": [{"hookName": "precreate", "path": "/x"}]},
        {"hooks": [{"hookName": ["prestart"]}]},
        {"hooks": [{"hookName": "prestart", "path": "/x", "timeout": "30"}]},
        {"intelRdt": {"schemata": "a"}},
        {"additionalGids": [True]},
    ],
    ids=str,
)
def test_edits_of_another_shape_are_refused(edits: dict[str, object]) -> None:
    """`apply` gets documents that nobody has validated."""
    with pytest.raises(HookError, match="CDI edits: "):
        injection.apply({}, [edits], look=absent)


@pytest.mark.parametrize(
    "document",
    [{}, {"kind": "v.com/a"}, {"kind": "v.com/a", "devices": {}}, {"kind": 1, "devices": ["0", 1]}],
)
def test_a_document_that_is_no_spec_defines_nothing(document: dict[str, object]) -> None:
    with pytest.raises(injection.UnresolvedError):
        injection.resolve(["v.com/a=0"], [[document]])
