# SPDX-License-Identifier: Apache-2.0
"""A machine that is only told of: its programs, what they print, and its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Change, Plan

BANNERS = {
    "dockerd": "Docker version {}, build 5d6db84",
    "containerd": "containerd github.com/containerd/containerd/v2 v{} 1c4457e",
    "crio": "crio version {}\nGitCommit: unknown",
    "podman": "podman version {}",
    "nerdctl": "nerdctl version {}",
    "buildah": "buildah version {} (image-spec 1.1.0, runtime-spec 1.2.0)",
}


class Told(Machine):
    """Programs by their versions, files by their texts."""

    def __init__(
        self,
        versions: dict[str, str] | None = None,
        files: dict[str, str] | None = None,
        outputs: dict[tuple[str, ...], str] | None = None,
        *,
        uid: int = 0,
    ) -> None:
        super().__init__({"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1000"}, uid=uid)
        self.versions = versions or {}
        self.texts = files or {}
        self.outputs = outputs or {}

    def found(self, name: str, directories: Iterable[str]) -> str | None:
        return f"/usr/bin/{name}" if name in self.versions else None

    def output(self, *command: str) -> str | None:
        name = command[0].rpartition("/")[2]
        if command[1:] == ("--version",):
            return BANNERS[name].format(self.versions[name])
        return self.outputs.get((name, *command[1:]))

    def text(self, path: str) -> str | None:
        return self.texts.get(path)

    def files(self, directory: str, suffix: str = "") -> tuple[str, ...]:
        inside = directory.rstrip("/") + "/"
        return tuple(
            sorted(
                path
                for path in self.texts
                if path.startswith(inside)
                and "/" not in path[len(inside) :]
                and path.endswith(suffix)
            )
        )


def carried_out(plan: Plan, files: dict[str, str]) -> dict[str, str]:
    """The files of a machine after a plan, without what did not change."""

    def made(change: Change) -> str | None:
        return change.make(files.get(change.path))

    return _changed(plan, files, made)


def taken_back(plan: Plan, files: dict[str, str], backups: dict[str, str]) -> dict[str, str]:
    """The files of a machine after a plan is taken back; ``backups`` as they were once."""

    def undone(change: Change) -> str | None:
        text = files.get(change.path)
        return None if text is None else change.undo(text, backups.get(change.path))

    return {**files, **_changed(plan, files, undone)}


def _changed(
    plan: Plan, files: dict[str, str], become: Callable[[Change], str | None]
) -> dict[str, str]:
    after = {}
    for change in plan.changes:
        text = become(change)
        if text != files.get(change.path):
            after[change.path] = "" if text is None else text
    return after
