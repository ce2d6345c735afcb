# SPDX-License-Identifier: Apache-2.0
"""A machine that is only told of: its programs, what they print, and its files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from cdi_gen.engines.change.record import Record, digest
from cdi_gen.engines.change.reversal import revert
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.plan import Plan
from cdi_gen.engines.status import EngineStatus

BANNERS = {
    "dockerd": "Docker version {}, build 5d6db84",
    "containerd": "containerd github.com/containerd/containerd/v2 v{} 1c4457e",
    "crio": "crio version {}\nGitCommit: unknown",
    "podman": "podman version {}",
    "nerdctl": "nerdctl version {}",
    "buildah": "buildah version {} (image-spec 1.1.0, runtime-spec 1.2.0)",
}


DOCKER_FILE = "/etc/docker/daemon.json"
CONTAINERD_FILE = "/etc/containerd/config.toml"
HOOK_FILE = "/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json"


class Told(Machine):
    """Programs by their versions, files by their texts.

    A program is named by its path, or is in /usr/bin.
    """

    def __init__(
        self,
        versions: dict[str, str] | None = None,
        files: dict[str, str] | None = None,
        outputs: dict[tuple[str, ...], str] | None = None,
        *,
        uid: int = 0,
        running: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        super().__init__({"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1000"}, uid=uid)
        self.versions = versions or {}
        self.texts = files or {}
        self.outputs = outputs or {}
        self.running = running or {}

    def find_program(self, name: str, directories: Iterable[str]) -> str | None:
        return f"/usr/bin/{name}" if name in self.versions else None

    def newest_program(self, patterns: Iterable[str]) -> str | None:
        there = [
            (one, each) for one in patterns for each in self.versions if fnmatchcase(each, one)
        ]
        return there[0][1] if there else None

    def exists(self, path: str) -> bool:
        return path in self.versions or path in self.texts

    def processes(self, program: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield from self.running.items()

    def is_ours(self, path: str) -> bool:
        record = RECORDS.get(path, Record())
        made = bool(record.steps) and record.steps[0].before is None
        return made and record.is_all(_digest(self.texts.get(path)))

    def output(self, *command: str) -> str | None:
        name = command[0].rpartition("/")[2]
        if command[1:] == ("--version",):
            return BANNERS[name].format(self.versions.get(command[0]) or self.versions[name])
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


RECORDS: dict[str, Record] = {}
"""What is recorded of each file in the test that runs."""


def carried_out(plan: Plan, files: dict[str, str]) -> dict[str, str]:
    """The files of a machine after a plan, without what did not change; it is recorded."""
    after: dict[str, str] = {}
    for change in plan.changes:
        before = files.get(change.path)
        text = change.edit(before)
        if text == before:
            continue
        record = RECORDS.get(change.path, Record()).as_far_as(_digest(before))
        RECORDS[change.path] = record.with_step(change.syntax, before, text, change.keys)
        after[change.path] = "" if text is None else text
    return after


def taken_back(plan: Plan, files: dict[str, str], backups: dict[str, str]) -> dict[str, str]:
    """The files of a machine after what is recorded is taken back; ``backups`` as they were once."""
    after = dict(files)
    for change in reversed(plan.changes):
        text = files.get(change.path)
        record = RECORDS.get(change.path, Record()).as_far_as(_digest(text))
        if text is None or not record.steps:
            continue
        was = backups.get(change.path)
        known = _digest(was) == record.steps[0].before
        found = revert(
            text, record, change.syntax, before=(was,) if known else None, keep=change.keep
        )
        after[change.path] = "" if found.text is None else found.text
    return after


def warnings(subject: Plan | EngineStatus) -> tuple[str, ...]:
    """The messages of the warnings about an engine."""
    return _messages(subject, "warning")


def notes(subject: Plan | EngineStatus) -> tuple[str, ...]:
    """The messages of what is good to know about an engine."""
    return _messages(subject, "info")


def _messages(subject: Plan | EngineStatus, severity: str) -> tuple[str, ...]:
    return tuple(each.message for each in subject.findings if each.severity == severity)


def _digest(text: str | None) -> str | None:
    return digest(None if text is None else text.encode())
