# SPDX-License-Identifier: Apache-2.0
"""One case for each rule of injection, by the name of the rule."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

USER = {"uid": 1000, "gid": 100}
PROCESS = {"user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin", "A=old", "B=b"]}
IN_USER_NAMESPACE = {"linux": {"namespaces": [{"type": "pid"}, {"type": "user"}]}}


def spec(*, kind: str = "v.com/a", common: Document | None = None, **devices: Document) -> Document:
    """A spec; devices are called d0, d1 …"""
    return {
        "cdiVersion": "1.1.0",
        "kind": kind,
        "devices": [{"name": name, "containerEdits": edits} for name, edits in devices.items()],
        "containerEdits": common or {},
    }


def ask(directories: list[list[Document]], *names: str, **config: Any) -> Document:
    config = {"ociVersion": "1.2.0"} | config
    return {"directories": directories, "config": config, "devices": list(names)}


def edit(edits: Document, **config: Any) -> Document:
    """Ask for one device with these edits."""
    return ask([[spec(d0=edits)]], "v.com/a=d0", **config)


def env(*variables: str, **config: Any) -> Document:
    return edit({"env": list(variables)}, **config)


def node(path: str = "/nodes/char", *, config: Document | None = None, **fields: Any) -> Document:
    return edit({"deviceNodes": [{"path": path} | fields]}, **(config or {}))


def mount(*places: str, config: Document | None = None, **fields: Any) -> Document:
    mounts = [{"hostPath": "/host", "containerPath": place} | fields for place in places]
    return edit({"mounts": mounts}, **(config or {}))


def hook(name: str, **fields: Any) -> Document:
    there = {"hooks": {name: [{"path": "/bin/there"}]}}
    return edit({"hooks": [{"hookName": name, "path": "/bin/hook"} | fields]}, **there)


def mounted(*places: str) -> Document:
    return {"mounts": [{"destination": place, "source": "/there"} for place in places]}


A = {"env": ["A=device"]}
B = {"env": ["B=device"]}
COMMON = {"env": ["COMMON=1"], "hooks": [{"hookName": "poststop", "path": "/bin/common"}]}
BROKEN = spec(d0={"env": ["no variable"]}, d1=A)

CASES: dict[str, Document] = {
    "a variable is added at the end": env("C=c", process=PROCESS),
    "a variable replaces one of its name at its place": env("A=new", process=PROCESS),
    "of variables of one name the last is replaced": env(
        "A=new", process=PROCESS | {"env": ["A=1", "B=2", "A=3"]}
    ),
    "a variable replaces a name without value": env("A=x", process=PROCESS | {"env": ["A"]}),
    "a variable twice in a spec": env("A=1", "A=2=3"),
    "a process is made for a variable": env("A="),
    "a node is as on the host": node(),
    "a block node": node("/nodes/block"),
    "a FIFO has no rule of the cgroup": node("/nodes/fifo"),
    "a FIFO may be absent": node("/nodes/absent", type="p"),
    "a node with type and major may be absent": node("/nodes/absent", type="c", major=195, minor=3),
    "a node with type and major gets the host's mode": node(type="b", major=195),
    "a node keeps its own mode": node(fileMode=0o600),
    "a mode of 0": node(fileMode=0),
    "a node of another path on the host": node("/dev/x", hostPath="/nodes/char"),
    "a major number without a type": node(major=7, minor=2),
    "a minor number without a major one": node(minor=9),
    "an unbuffered node": node(type="u", major=7),
    "an unbuffered node of the host": node(type="u"),
    "a node of another type than the host's": node(type="b"),
    "a node that is not there": node("/nodes/absent"),
    "a node of which only the type is known": node("/nodes/absent", type="c", minor=3),
    "a file is no node": node("/nodes/file"),
    "a link is no node": node("/nodes/link"),
    "a link with type and major": node("/nodes/link", type="c", major=1),
    "permissions": node(permissions="r"),
    "no permissions": node(permissions="none"),
    "a node belongs to the user of the process": node(config={"process": {"user": USER, "cwd": "/"}}),
    "a node of a process of root": node(config={"process": PROCESS}),
    "a node has its own owner": node(
        uid=0, gid=7, config={"process": {"user": USER, "cwd": "/"}}
    ),
    "a node replaces one at its path": node(
        config={"linux": {"devices": [
            {"path": "/nodes/char", "type": "c", "major": 5, "minor": 5, "uid": 9},
            {"path": "/dev/other", "type": "c", "major": 5, "minor": 6},
        ]}}
    ),
    "of nodes of one path the first goes and the second is replaced": node(
        config={"linux": {"devices": [
            {"path": "/nodes/char", "type": "c", "major": 5, "minor": 1},
            {"path": "/dev/other", "type": "c", "major": 5, "minor": 2},
            {"path": "/nodes/char", "type": "c", "major": 5, "minor": 3},
            {"path": "/nodes/char", "type": "c", "major": 5, "minor": 4},
        ]}}
    ),
    "of two nodes of one path one stays": node(
        config={"linux": {"devices": [
            {"path": "/nodes/char", "type": "c", "major": 5, "minor": 1},
            {"path": "/nodes/char", "type": "c", "major": 5, "minor": 2},
            {"path": "/dev/other", "type": "c", "major": 5, "minor": 3},
        ]}}
    ),
    "a rule comes after those that are there": node(
        config={"linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}}
    ),
    "mounts are sorted by depth": mount(
        "/a/b/c", "/a", "/a/b", config=mounted("/proc", "/z/y/x/w", "/dev", "/dev/shm")
    ),
    "mounts stay as they are without one to add": env("A=b", **mounted("/a/b/c", "/a")),
    "a depth is that of the shortest form": mount(
        "/a/../b/../c/d", "//x//", "a/b", "/", ".", "../..", "/../y",
        config=mounted("/e/f/g", "/e/f", "/e"),
    ),
    "a mount replaces one at its place": mount("/a", config=mounted("/a", "/b", "/a")),
    "a place is compared as it is written": mount("/a/", config=mounted("/a")),
    "a mount twice in a spec": mount("/a", "/b", "/a"),
    "a mount with type and options": mount("/a", type="tmpfs", options=["ro", "nosuid"]),
    **{
        f"in a user namespace: {' '.join([type_ or 'no type', *options])}": mount(
            "/a", type=type_, options=options, config=IN_USER_NAMESPACE
        )
        for type_, options in (
            ("", []),
            ("", ["ro"]),
            ("", ["bind", "ro"]),
            ("", ["ro", "rbind"]),
            ("", ["rbind", "bind"]),
            ("", ["bind", "idmap"]),
            ("", ["ridmap", "bind"]),
            ("bind", ["ro"]),
            ("bind", ["rbind"]),
            ("tmpfs", ["ro"]),
        )
    },
    **{
        f"a hook of {name}": hook(name, args=["hook", "x"], env=["A=b"], timeout=30)
        for name in (
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
        )
    },
    "a hook of nothing but a path": hook("createContainer"),
    "a timeout of 0": hook("createContainer", timeout=0),
    "a network interface": edit({"netDevices": [{"hostInterfaceName": "eth0", "name": "e"}]}),
    "a network interface replaces one": edit(
        {"netDevices": [{"hostInterfaceName": "eth0", "name": "e"}]},
        linux={"netDevices": {"eth0": {"name": "old"}, "eth1": {"name": "kept"}}},
    ),
    "Intel RDT replaces all of it": edit(
        {"intelRdt": {"closID": "new", "schemata": ["L3:0=1"], "enableMonitoring": True}},
        linux={"intelRdt": {"closID": "old", "l3CacheSchema": "L3:0=f"}},
    ),
    "Intel RDT without a setting": edit({"intelRdt": {}}, linux={"intelRdt": {"closID": "old"}}),
    "of two Intel RDT the later": ask(
        [[spec(common={"intelRdt": {"closID": "a", "memBwSchema": "MB:0=1"}},
               d0={"intelRdt": {"closID": "b"}})]],
        "v.com/a=d0",
    ),
    "groups, each once, never 0": edit(
        {"additionalGids": [44, 0, 100, 44, 7]},
        process={"user": {"uid": 1, "gid": 44, "additionalGids": [100, 5]}, "cwd": "/"},
    ),
    "a process is made for a group": edit({"additionalGids": [44]}),
    "group 0 alone": edit({"additionalGids": [0]}),
    "a spec's edits come first and once": ask(
        [[spec(common=COMMON, d0=A, d1=B)]], "v.com/a=d1", "v.com/a=d0"
    ),
    "each spec's edits come before its first device's": ask(
        [[spec(common=COMMON, d0=A, d1=B), spec(kind="v.com/b", common=COMMON, d0=A)]],
        "v.com/a=d0", "v.com/b=d0", "v.com/a=d1",
    ),
    "a device that is asked for twice is applied twice": ask(
        [[spec(d0=COMMON)]], "v.com/a=d0", "v.com/a=d0"
    ),
    "a later directory wins": ask([[spec(d0=A, d1=A)], [spec(d0=B)]], "v.com/a=d0", "v.com/a=d1"),
    "two specs of one directory": ask([[spec(d0=A, d1=A), spec(d0=B, d2=B)]], "v.com/a=d0"),
    "two specs of one directory, and what only one defines": ask(
        [[spec(d0=A, d1=A), spec(d0=B, d2=B)]], "v.com/a=d1", "v.com/a=d2"
    ),
    "two specs of one directory and one of a later": ask(
        [[spec(d0=A), spec(d0=B)], [spec(d0=B)]], "v.com/a=d0"
    ),
    "two specs of a later directory": ask([[spec(d0=A)], [spec(d0=B), spec(d0=B)]], "v.com/a=d0"),
    "no such device": ask([[spec(d0=A)]], "v.com/a=d0", "v.com/a=d9", "v.com/b=d0", "d0", ""),
    "an invalid spec defines nothing": ask([[BROKEN]], "v.com/a=d1"),
    "an invalid spec hides nothing": ask([[spec(d1=B)], [BROKEN]], "v.com/a=d1"),
    "an invalid spec is in nobody's way": ask([[BROKEN, spec(d1=B)]], "v.com/a=d1"),
    "no directory": ask([], "v.com/a=d0"),
    "nothing is asked for": ask([[spec(common=COMMON, d0=A)]], process=PROCESS),
}  # fmt: skip
