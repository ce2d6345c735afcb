# SPDX-License-Identifier: Apache-2.0
"""Podman in the lab: run containers with one runtime as one user, and see what they leave behind."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tests.lab.engines import Inside
from tests.lab.probe import Answers, answers, probe

_LIST = r"""find "$1" -mindepth 1 -printf '%P\t%y\t%m\t%s\t%l\n'"""


class Podman:
    """Podman with an OCI runtime, ``crun`` or ``runc``, run by root or by ``debian.USER``."""

    def __init__(self, inside: Inside, *, runtime: str = "crun", user: int = 0) -> None:
        self.inside = inside
        self.runtime = runtime
        self.user = user

    def __call__(
        self, *arguments: str, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run podman itself with any arguments."""
        command = ["podman", "--runtime", self.runtime, *arguments]
        return self.inside.run(command, user=self.user, check=check, timeout=timeout)

    def load(self, archive: str) -> None:
        """Load the images of an archive, a path inside, into this user's storage."""
        self("load", "--quiet", "--input", archive)

    def ask(self, image: str, *questions: tuple[str, ...], options: Sequence[str] = ()) -> Answers:
        """Start a container of an image with options of ``podman run`` and ask its ``/probe``."""
        ran = self("run", "--rm", *options, f"localhost/{image}", *probe(*questions))
        return answers(ran.stdout)

    def left_behind(
        self, image: str, *command: str, options: Sequence[str] = ()
    ) -> dict[str, tuple[str, ...]]:
        """What is on top of the image once a container of it has run ``command`` and ended.

        The container's own layer is read, where every change is an entry and nothing is
        filtered, unlike in ``podman diff``. Each path maps to its type (a ``c`` is a file taken
        away), mode, size and symlink target. The runtime's own stubs are there too, the mount
        points that it made for the container's mounts: compare with a container that has those.
        """
        (left,) = self.left_by_starts(image, *command, options=options, starts=1)
        return left

    def left_by_starts(
        self, image: str, *command: str, options: Sequence[str] = (), starts: int
    ) -> list[dict[str, tuple[str, ...]]]:
        """``left_behind`` of one container, once after each of its starts."""
        container = self("create", *options, f"localhost/{image}", *command).stdout.strip()
        try:
            return [self._start(container) for _ in range(starts)]
        finally:
            self("rm", "--force", container)

    def _start(self, container: str) -> dict[str, tuple[str, ...]]:
        """Start a container, wait for its end, and list its own layer."""
        self("start", "--attach", container)
        upper = self(
            "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", container
        ).stdout.strip()
        listed = self.inside.run(["sh", "-c", _LIST, "sh", upper]).stdout
        entries = (line.split("\t") for line in listed.splitlines())
        return {f"/{path}": tuple(fields) for path, *fields in entries}
