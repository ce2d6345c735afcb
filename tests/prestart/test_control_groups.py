# SPDX-License-Identifier: Apache-2.0
"""Which control groups are a container's own, and which unit of systemd's it is in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdi_base.errors import HookError
from cdi_runtime.prestart import control_groups
from cdi_runtime.prestart.control_groups import ControlGroups, Group

SCOPE = "docker-0f.scope"
CALLER = "5:devices:/system.slice/docker.service\n0::/system.slice/docker.service\n"


def _of(monkeypatch: pytest.MonkeyPatch, container: str, table: str = "") -> ControlGroups:
    """The control groups of a container with these lines in its /proc/PID/cgroup."""
    texts = {"cgroup": container, "/proc/self/cgroup": CALLER, "/proc/self/mountinfo": table}
    monkeypatch.setattr(control_groups, "_read", lambda path, _=None: texts[path])
    return ControlGroups(-1)


@pytest.mark.parametrize(
    ("lines", "scope"),
    [
        (f"0::/system.slice/{SCOPE}", SCOPE),
        (f"0::/machine.slice/{SCOPE}/container", SCOPE),
        (f"1:name=systemd:/system.slice/{SCOPE}\n0::/", SCOPE),
        (f"1:name=systemd:/\n0::/kubepods.slice/pod.slice/{SCOPE}", SCOPE),
        (f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/{SCOPE}", None),
        (f"0::/system.slice/{SCOPE}/a/b/c", None),
        ("0::/docker/0f", None),
        ("0::/system.slice/containerd.service/kubepods-0f:cri:1", None),
        ("", None),
    ],
)
def test_scope_of_a_container(
    monkeypatch: pytest.MonkeyPatch, lines: str, scope: str | None
) -> None:
    monkeypatch.setattr(control_groups, "_open", lambda *_: [])
    assert _of(monkeypatch, lines).scope == scope


@pytest.mark.parametrize(
    ("lines", "groups"),
    [
        ("5:devices:/docker/0f\n0::/docker/0f", [(1, "/docker/0f"), (2, "/docker/0f")]),
        (CALLER, []),
        ("5:devices:/system.slice\n0::/system.slice", []),
        ("4:cpu,devices:/a\n", [(1, "/a")]),
        ("4:cpu:/a\n1:name=systemd:/b", []),
    ],
    ids=["own", "the caller's", "a slice", "several controllers", "no devices controller"],
)
def test_own_groups_of_a_container(
    monkeypatch: pytest.MonkeyPatch, lines: str, groups: list[tuple[int, str]]
) -> None:
    monkeypatch.setattr(
        control_groups, "_open", lambda _, version, path: [Group(version, path, -1)]
    )
    own = _of(monkeypatch, lines).groups
    assert [(group.version, group.path) for group in own] == groups


TABLE = """\
30 20 0:26 / {0}/unified rw - cgroup2 cgroup2 rw
31 20 0:27 / {0}/cpu rw shared:9 - cgroup cgroup rw,cpu
32 20 0:28 /outer {0}/devices rw - cgroup cgroup rw,devices
"""


@pytest.mark.parametrize(
    ("line", "places"),
    [
        ("0::/a/b", ["unified/a/b"]),
        (f"0::/a/{SCOPE}/container", [f"unified/a/{SCOPE}", f"unified/a/{SCOPE}/container"]),
        ("5:devices:/outer/c", ["devices/c"]),
    ],
)
def test_groups_are_opened_in_their_hierarchy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, places: list[str]
) -> None:
    for place in places:
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    groups = _of(monkeypatch, line, TABLE.format(tmp_path)).groups
    assert [group.path for group in groups] == [f"{tmp_path}/{place}" for place in places]
    for group, place in zip(groups, places, strict=True):
        assert os.path.samestat(os.fstat(group.descriptor), (tmp_path / place).stat())


@pytest.mark.parametrize(
    "line", ["5:devices:/outerspace/c", "5:devices:/outer/../c", "0::/..", "0::/a"]
)
def test_group_in_no_mounted_hierarchy_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    (tmp_path / "unified").mkdir()
    with pytest.raises(HookError, match="the container's control group"):
        _of(monkeypatch, line, TABLE.format(tmp_path))
