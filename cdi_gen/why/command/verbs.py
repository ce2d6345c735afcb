# SPDX-License-Identifier: Apache-2.0
"""The commands of each program that start a container or build an image, by all their names."""

from __future__ import annotations

from collections.abc import Mapping

VERBS: Mapping[str, Mapping[tuple[str, ...], str]] = {
    "docker": {
        ("run",): "run",
        ("create",): "create",
        ("container", "run"): "run",
        ("container", "create"): "create",
        ("build",): "build",
        ("image", "build"): "build",
        ("builder", "build"): "build",
        ("buildx", "build"): "build",
        ("buildx", "b"): "build",
        ("service", "create"): "service create",
        ("stack", "deploy"): "stack deploy",
        ("stack", "up"): "stack deploy",
        ("compose",): "compose",
    },
    "podman": {
        ("run",): "run",
        ("create",): "create",
        ("container", "run"): "run",
        ("container", "create"): "create",
        ("build",): "build",
        ("image", "build"): "build",
        ("buildx", "build"): "build",
        ("kube", "play"): "kube play",
        ("play", "kube"): "kube play",
        ("compose",): "compose",
    },
    "nerdctl": {
        ("run",): "run",
        ("create",): "create",
        ("container", "run"): "run",
        ("container", "create"): "create",
        ("build",): "build",
        ("image", "build"): "build",
        ("compose",): "compose",
    },
    "buildah": {
        ("build",): "build",
        ("bud",): "build",
        ("build-using-dockerfile",): "build",
        ("from",): "from",
        ("run",): "run",
    },
    "ctr": {
        ("run",): "run",
        ("containers", "create"): "container create",
        ("container", "create"): "container create",
        ("c", "create"): "container create",
    },
}

INTERSPERSED = frozenset({("docker", "build"), ("podman", "build")})
"""The commands whose options may follow their arguments (``SetInterspersed`` of their sources)."""

GO_FLAGS = frozenset({"ctr"})
"""The programs whose options are those of Go's package flag: ``-device`` is ``--device``."""


def find(program: str, words: tuple[str, ...]) -> tuple[str, int]:
    """The command in the words after the program's own options, and how many words it has.

    The command is empty if the program's command starts no container.
    """
    for length in (2, 1):
        command = VERBS[program].get(words[:length])
        if command:
            return command, length
    return "", 0
