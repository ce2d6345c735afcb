# SPDX-License-Identifier: Apache-2.0
"""The containerd that reads a configuration file, and the distribution that brings it.

MicroK8s, k3s, RKE2 and k0s bring their own containerd, which is not the one in PATH, and generate
its configuration from a template. The version of that containerd decides what may be written, and
an edit of a file that is generated at every start is lost.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import NamedTuple

from cdi_gen.engines.facts import Distribution, containerd_distributions
from cdi_gen.engines.machine import Machine
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import base_name, parent

PROGRAM = "containerd"
OPTION = "--executable-path"
"""The name that `nvidia-ctk runtime configure` has for it."""

_ACTIONS = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_VARIABLES = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


BASE = '{{ template "base" . }}'
"""Includes, in a template of k3s and RKE2, the configuration that they generate without it."""

_MANAGED = "# k0s_managed=true"
"""A line of /etc/k0s/containerd.toml while k0s generates the file."""


class Daemon(NamedTuple):
    """A containerd: its program, and the distribution that brings it."""

    program: str | None
    distribution: Distribution | None = None


def daemon_of(path: str, default_path: str, executable: str | None, machine: Machine) -> Daemon:
    """The containerd that reads a file.

    Args:
        path: of the file.
        default_path: the file that a containerd reads by default.
        executable: the program, if the user names it.
        machine: the machine.

    Raises:
        CdiGenError: several programs could read the file, or the one that does is not found.
    """
    distribution = distribution_of(path)
    running = _running(default_path, machine)
    if executable or path in running:
        return Daemon(executable or running[path], distribution)
    if distribution:
        program = machine.newest_program(distribution.programs)
        if program is None and distribution.programs:
            raise CdiGenError(
                f"{path} belongs to {distribution.name}, whose containerd is not found; its "
                "version decides what may be written",
                hint=f"name the program: {OPTION} PATH",
                code="CDG-E009",
                subject=path,
            )
        return Daemon(program, distribution)
    in_path = machine.program(PROGRAM)
    if path == default_path:
        return Daemon(in_path)
    others = [
        machine.newest_program(distribution.programs) for distribution in containerd_distributions()
    ]
    programs = dict.fromkeys(filter(None, (in_path, *running.values(), *others)))
    if len(programs) > 1:
        raise CdiGenError(
            f"{path} could be read by {' or '.join(programs)}, and the version of the containerd "
            "decides what may be written",
            hint=f"name the program: {OPTION} PATH",
            code="CDG-E009",
            subject=path,
        )
    return Daemon(next(iter(programs), None))


def distribution_of(path: str) -> Distribution | None:
    """The distribution that a configuration file belongs to."""
    for distribution in containerd_distributions():
        if any(fnmatchcase(path, pattern) for pattern in distribution.files):
            return distribution
    return None


def _running(default_path: str, machine: Machine) -> dict[str, str]:
    """The program of each running containerd, by the configuration file that it reads."""
    programs = {}
    for program, words in machine.processes(PROGRAM):
        path = default_path
        for word, following in zip(words, [*words, ""][1:], strict=True):
            name, equals, value = word.partition("=")
            if name in {"--config", "-c", "-config"}:
                path = value if equals else following
        programs[path] = program
    return programs


def is_template(path: str, text: str | None) -> bool:
    """Whether a file is a template of a configuration, which can have no drop-in."""
    content = _without_comments(text or "")
    is_named_so = path.endswith(".tmpl") or "template" in base_name(path)
    return is_named_so or bool(_ACTIONS.search(content) or _VARIABLES.search(content))


def is_drop_in(path: str, distribution: Distribution | None) -> bool:
    """Whether a file is one of several that a distribution merges."""
    return distribution is not None and parent(path).endswith(".d")


def has_actions(text: str | None) -> bool:
    """Whether a file is not TOML, but a template of Go's ``text/template`` with ``{{ … }}``."""
    return bool(_ACTIONS.search(_without_comments(text or "")))


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def is_generated(path: str, text: str | None, distribution: Distribution | None) -> bool:
    """Whether the distribution generates a file at every start, so that an edit is lost."""
    if distribution is None:
        return False
    if distribution.name == "k0s" and _MANAGED in (text or ""):
        return True
    return not any(fnmatchcase(path, pattern) for pattern in distribution.writable)
