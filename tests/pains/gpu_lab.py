# SPDX-License-Identifier: Apache-2.0
"""A fake GPU host with a real Podman, on which ``cdi-gen`` is a command like any other.

The lab has no driver in its /proc: `cdi-gen` gets the host's inventory by its option.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import tomlkit
import yaml

from cdi_base.findings import Finding
from tests.engine import machine as machines
from tests.engine.matrix.place import SOURCES
from tests.host.looking import REPOSITORY
from tests.lab.engines import Inside, Lab
from tests.lab.podman import Podman
from tests.lab.probe import Answers, answers, probe

PACKAGES = "/opt/packages"
INVENTORY = "/run/host.json"
CDI_GEN = f"""\
#!/bin/sh
for word; do
    case $word in generate|why) set -- "$@" --inventory {INVENTORY}; break;; esac
done
export PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH={SOURCES}:{SOURCES}/specs:{SOURCES}/hooks:{PACKAGES}
exec /usr/bin/python3 -W ignore -m cdi_gen "$@"
"""
SPEC = "/etc/cdi/nvidia.json"


class Answer(NamedTuple):
    """What `cdi-gen why` says of Podman."""

    outcome: str
    findings: tuple[Finding, ...]

    def finding(self, code: str) -> Finding:
        """The finding with this code."""
        (finding,) = (finding for finding in self.findings if finding.code == code)
        return finding


class GpuLab:
    """An entered host with Podman, for one user."""

    def __init__(self, inside: Inside, generate: Callable[..., str], user: int) -> None:
        self.inside = inside
        self.generate = generate
        self.user = user
        self.podman = Podman(inside, user=user)

    def serve(self, text: str, path: str = SPEC, *, mode: int = 0o644) -> None:
        """Write a spec file."""
        self.inside.write(path, text, mode=mode)

    def clear(self) -> None:
        """Remove all specs."""
        self.inside.run(["sh", "-c", "rm -rf /etc/cdi /run/cdi; mkdir /etc/cdi"])

    def start(
        self, *options: str, ask: tuple[str, ...] = ("open", "/dev/nvidia0")
    ) -> subprocess.CompletedProcess[str]:
        """Start a container with options of ``podman run``, and ask it something."""
        words = ("run", "--rm", "--network", "none", *options, "localhost/debian", *probe(ask))
        return self.podman(*words, check=False)

    def ask(self, *options: str, ask: tuple[str, ...]) -> Answers:
        """The answers of a container that starts."""
        ended = self.start(*options, ask=ask)
        assert ended.returncode == 0, ended.stderr
        return answers(ended.stdout)

    def why(self, name: str) -> Answer:
        """What `cdi-gen why NAME` says of this user's Podman."""
        words = ["cdi-gen", "why", name, "--engine", "podman", "-o", "json"]
        ended = self.inside.run(words, user=self.user, check=False)
        assert ended.returncode in {0, 1}, ended.stderr
        document: Any = json.loads(ended.stdout)
        (answer,) = (
            answer for answer in document["answers"] if answer["rootless"] == bool(self.user)
        )
        found = tuple(
            Finding(
                finding["code"],
                finding["severity"],
                finding["message"],
                subject=finding.get("subject", ""),
                fix=finding.get("fix", ""),
            )
            for finding in answer["findings"]
        )
        return Answer(answer["outcome"], found)

    def follow(self, advice: str) -> None:
        """Run the printed advice as an administrator does."""
        self.inside.run(["sh", "-ec", advice])


@contextlib.contextmanager
def entered(
    lab: Lab, folder: Path, images: Path, *, user: int = 0, host: str = "550-8gpu"
) -> Iterator[GpuLab]:
    """Enter a fake host with the engines of a suite."""
    fake = machines.prepare(host, folder)
    packages = {
        f"{PACKAGES}/{module.__name__}": Path(str(module.__file__)).parent
        for module in (click, tomlkit, yaml)
    }
    with machines.enter(lab, fake, images, shown={SOURCES: REPOSITORY, **packages}) as machine:
        inside = machine.inside
        inside.write("/usr/bin/cdi-gen", CDI_GEN, mode=0o755)
        inside.write("/usr/bin/sudo", '#!/bin/sh\nexec "$@"\n', mode=0o755)
        inside.write(INVENTORY, json.dumps(machine.inventory))
        inside.run(["mkdir", "-p", "/etc/cdi"])
        Podman(inside, user=user).load("/images.tar")
        yield GpuLab(inside, machine.generate, user)
