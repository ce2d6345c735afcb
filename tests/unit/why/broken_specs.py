# SPDX-License-Identifier: Apache-2.0
"""Spec directories that are broken in one way each, as users have them.

The standard library suffices, because a lab's own interpreter lays them out.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

KIND = "example.com/gpu"
NAME = f"{KIND}=gpu0"
VARIABLE = "CDI_DEVICE=gpu0"
"""What the device sets in a container."""

ETC = "/etc/cdi"
RUN = "/var/run/cdi"
FILES = "/opt/why"
"""What specs mount and run."""

NODE = "/dev/why"
"""1:3, as /dev/null."""

NUMBERS = {"type": "c", "major": 1, "minor": 3}


class File(NamedTuple):
    """A file of a case."""

    text: str
    mode: int = 0o644


class Link(NamedTuple):
    """A symbolic link of a case."""

    target: str


class Directory(NamedTuple):
    """A directory of a case."""

    mode: int = 0o755


Entry = File | Link | Directory


class Case(NamedTuple):
    """Files at their paths, and the name that is requested."""

    id: str
    entries: Mapping[str, Entry]
    requested: str = NAME
    quick: bool = True
    """Whether it is also run where only Podman is installed."""
    daemons: bool = True
    """Whether a running daemon notices the change."""


def spec(
    *, version: str = "0.5.0", kind: str = KIND, name: str = "gpu0", more: Any = None, **edits: Any
) -> str:
    """The text of a spec with one device."""
    device = {"name": name, "containerEdits": {"env": [VARIABLE], **edits}}
    return json.dumps({"cdiVersion": version, "kind": kind, "devices": [device], **(more or {})})


def node(**fields: Any) -> str:
    return spec(deviceNodes=[{"path": NODE, **fields}])


def mount(path: str, *options: str, **fields: Any) -> str:
    of_mount = {"hostPath": path, "containerPath": "/mnt/why", "options": [*options], **fields}
    return spec(version="0.5.0", mounts=[of_mount])


def hook(path: str, stage: str = "createContainer") -> str:
    return spec(
        hooks=[{"hookName": stage, "path": path, "args": ["why"], "env": ["PATH=/usr/bin:/bin"]}]
    )


def only(text: str, **how: Any) -> dict[str, Entry]:
    """One spec in /etc/cdi."""
    return {f"{ETC}/why.json": File(text, **how)}


GOOD = spec()
OK_HOOK = f"{FILES}/hook"
MISSING = f"{FILES}/missing"
GROUPS = [44]

CASES = (
    Case("good", only(GOOD)),
    Case("good-yaml", {f"{ETC}/why.yaml": File(f"---\n{GOOD}\n")}, quick=False),
    Case("no-file", {}),
    Case("no-directories", {RUN: Link("/nowhere")}, quick=False, daemons=False),
    *(
        Case(f"version-{version}", only(spec(version=version)), quick=version in {"0.6.0", "1.0.0"})
        for version in ("0.3.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
    ),
    Case("version-unknown", only(spec(version="0.9.0")), quick=False),
    Case("version-with-v", only(spec(version="v0.5.0")), quick=False),
    Case(
        "version-too-low",
        only(spec(version="0.3.0", name="0")),
        requested=f"{KIND}=0",
    ),
    Case("unknown-field", only(spec(deviceNodes=[{"path": NODE, **NUMBERS, "mode": 438}]))),
    Case("groups", only(spec(version="0.7.0", additionalGids=GROUPS))),
    Case("groups-claimed-too-low", only(spec(version="0.5.0", additionalGids=GROUPS)), quick=False),
    Case("annotations", only(spec(version="0.6.0", more={"annotations": {"a.b/c": "d"}}))),
    Case("cut-off", only(GOOD[:60])),
    Case("empty-file", only(""), quick=False),
    Case("other-capitals", only(GOOD.replace("containerEdits", "containeredits")), quick=False),
    Case("no-devices", only(json.dumps({"cdiVersion": "0.5.0", "kind": KIND, "devices": []}))),
    Case(
        "empty-edits",
        only(
            json.dumps(
                {
                    "cdiVersion": "0.5.0",
                    "kind": KIND,
                    "devices": [{"name": "gpu0", "containerEdits": {}}],
                }
            )
        ),
        quick=False,
    ),
    Case("conflict", {f"{ETC}/a.json": File(GOOD), f"{ETC}/b.json": File(GOOD)}),
    Case(
        "conflict-and-a-third",
        {f"{ETC}/a.json": File(GOOD), f"{ETC}/b.json": File(GOOD), f"{RUN}/c.json": File(GOOD)},
    ),
    Case(
        "conflict-of-an-ignored-file",
        {f"{ETC}/a.json": File(GOOD), f"{ETC}/b.json": File(spec(version="0.9.0"))},
        quick=False,
    ),
    Case(
        "broken-is-shadowed",
        {f"{ETC}/a.json": File(mount(MISSING, "bind")), f"{RUN}/b.json": File(GOOD)},
    ),
    Case(
        "good-is-shadowed",
        {f"{ETC}/a.json": File(GOOD), f"{RUN}/b.json": File(mount(MISSING, "bind"))},
    ),
    Case(
        "broken-beside-good",
        {f"{ETC}/a.json": File(GOOD), f"{ETC}/b.json": File("{"), f"{ETC}/c.json": File("kind: x")},
        quick=False,
    ),
    Case(
        "too-new-over-good",
        {f"{ETC}/a.json": File(GOOD), f"{RUN}/b.json": File(spec(version="1.1.0"))},
        quick=False,
    ),
    Case("run-only", {f"{RUN}/why.json": File(GOOD)}),
    Case("closed-file", only(GOOD, mode=0o600)),
    Case("closed-directory", {ETC: Directory(0o700), **only(GOOD)}, daemons=False),
    Case("other-suffix", {f"{ETC}/why.yml": File(GOOD)}, quick=False),
    Case(
        "linked-file", {f"{ETC}/why.json": Link(f"{FILES}/good.json")}, quick=False, daemons=False
    ),
    Case("dangling-link", {f"{ETC}/why.json": Link(MISSING)}, quick=False),
    Case("linked-directory", {ETC: Link(f"{FILES}/specs")}, daemons=False),
    Case("other-name", only(GOOD), requested=f"{KIND}=0"),
    Case("other-class", only(GOOD), requested="example.com/gpus=gpu0", quick=False),
    Case("bare-kind", only(GOOD), requested=KIND),
    Case("node", only(node(**NUMBERS)), quick=False),
    Case("node-without-numbers", only(node())),
    Case("node-missing-without-numbers", only(spec(deviceNodes=[{"path": "/dev/missing"}]))),
    Case("node-missing", only(spec(deviceNodes=[{"path": "/dev/missing", **NUMBERS}]))),
    Case("node-with-another-number", only(node(type="c", major=1, minor=5))),
    Case("node-is-a-link", only(spec(deviceNodes=[{"path": "/dev/why-link"}]))),
    Case(
        "node-is-a-link-with-numbers",
        only(spec(deviceNodes=[{"path": "/dev/why-link", **NUMBERS}])),
        quick=False,
    ),
    Case("node-is-a-file", only(spec(deviceNodes=[{"path": f"{FILES}/file"}])), quick=False),
    Case("node-of-another-type", only(node(type="b")), quick=False),
    Case(
        "node-elsewhere",
        only(spec(deviceNodes=[{"path": "/dev/elsewhere", "hostPath": NODE, **NUMBERS}])),
    ),
    Case(
        "node-missing-elsewhere",
        only(spec(deviceNodes=[{"path": NODE, "hostPath": "/dev/missing"}])),
    ),
    Case("mount", only(mount(f"{FILES}/file", "ro", "bind")), quick=False),
    Case("mount-missing", only(mount(MISSING, "ro", "bind"))),
    Case("mount-without-bind", only(mount(f"{FILES}/file", "ro"))),
    Case("mount-closed", only(mount(f"{FILES}/closed/file", "ro", "bind"))),
    Case("mount-tmpfs", only(mount("tmpfs", "nosuid", type="tmpfs")), quick=False),
    Case("hook", only(hook(OK_HOOK)), quick=False),
    Case("hook-missing", only(hook(MISSING))),
    Case("hook-not-executable", only(hook(f"{FILES}/file"))),
    Case("hook-without-interpreter", only(hook(f"{FILES}/hook-of-python4"))),
    Case("hook-is-a-directory", only(hook(FILES)), quick=False),
    Case("hook-after-the-end", only(hook(MISSING, "poststop")), quick=False),
)


def prepare() -> None:
    """Create what the specs of the cases mount and run."""
    os.makedirs(f"{FILES}/specs", exist_ok=True)
    os.makedirs(f"{FILES}/closed", exist_ok=True)
    texts = {
        "file": ("", 0o644),
        "closed/file": ("", 0o644),
        "good.json": (GOOD, 0o644),
        "specs/why.json": (GOOD, 0o644),
        "hook": ("#!/bin/sh\ncat >/dev/null\n", 0o755),
        "hook-of-python4": ("#!/usr/bin/python4\n", 0o755),
    }
    for name, (text, mode) in texts.items():
        _write(f"{FILES}/{name}", File(text, mode))
    os.chmod(f"{FILES}/closed", 0o700)
    if not os.path.lexists(NODE):
        os.mknod(NODE, 0o020666, os.makedev(1, 3))
        os.chmod(NODE, 0o666)
        os.symlink(NODE, "/dev/why-link")


def lay_out(case: Case) -> None:
    """Make the spec directories of this machine those of a case."""
    for directory in (ETC, RUN):
        entry = case.entries.get(directory)
        is_plain = not isinstance(entry, Link)
        if os.path.islink(directory):
            os.unlink(directory)
        if is_plain and os.path.isdir(directory):  # a daemon watches it
            for name in os.listdir(directory):
                os.unlink(f"{directory}/{name}")
            os.chmod(directory, 0o755)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    for path, entry in case.entries.items():
        if isinstance(entry, Link):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(entry.target, path)
        elif isinstance(entry, Directory):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, entry.mode)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path, entry)


def _write(path: str, file: File) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(file.text)
    os.chmod(path, file.mode)
