# SPDX-License-Identifier: Apache-2.0
"""Whose configuration of containerd a file is.

MicroK8s, k3s, RKE2 and k0s bring a containerd of their own, another one than that in PATH, and make
its configuration of a template. The version of that one decides what may be written, and what is
written to a file that is made anew at the next start is lost.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import NamedTuple

from cdi_gen.engines.machine import Machine
from cdi_gen.errors import CdiGenError
from cdi_gen.paths import base_name, parent

PROGRAM = "containerd"
OPTION = "--executable-path"
"""As `nvidia-ctk runtime configure` calls it."""

_ACTIONS = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_VARIABLES = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class Distribution(NamedTuple):
    """Somebody who brings a containerd."""

    name: str
    files: tuple[str, ...]
    """Patterns of the paths of its configuration."""
    programs: tuple[str, ...]
    """Patterns of the paths of its containerd, the first that is there counts."""
    sources: tuple[str, ...]
    """Patterns of those files that a person may write to; all others are made anew."""
    advice: str
    """Where to write instead; {version} is that of the file."""
    restart: str


BASE = '{{ template "base" . }}'
"""By which a template of k3s and RKE2 takes over what they would have written without it."""

_K3S = (
    '{directory}/config{suffix}.toml.tmpl, after the line {{{{ template "base" . }}}}; or let '
    "{name} do it: it registers the runtime nvidia when it starts and finds "
    "nvidia-container-runtime in its PATH, and option default-runtime makes it the default"
)

DISTRIBUTIONS = (
    Distribution(
        "k3s",
        ("/var/lib/rancher/k3s/agent/etc/containerd/*", "*/k3s/agent/etc/containerd/*"),
        (
            "/var/lib/rancher/k3s/data/current/bin/containerd",
            "/var/lib/rancher/k3s/data/*/bin/containerd",
        ),
        ("*.tmpl",),
        _K3S,
        "systemctl restart k3s",
    ),
    Distribution(
        "RKE2",
        ("/var/lib/rancher/rke2/agent/etc/containerd/*", "*/rke2/agent/etc/containerd/*"),
        ("/var/lib/rancher/rke2/bin/containerd", "/var/lib/rancher/rke2/data/*/bin/containerd"),
        ("*.tmpl",),
        _K3S,
        "systemctl restart rke2-server (or rke2-agent)",
    ),
    Distribution(
        "MicroK8s",
        ("/var/snap/microk8s/*/args/containerd*.toml",),
        ("/snap/microk8s/current/bin/containerd",),
        ("*/containerd-template.toml",),
        "{directory}/containerd-template.toml",
        "snap restart microk8s.daemon-containerd",
    ),
    Distribution(
        "k0s",
        ("/etc/k0s/containerd.toml", "/etc/k0s/containerd.d/*", "/run/k0s/*.toml"),
        ("/var/lib/k0s/bin/containerd",),
        ("/etc/k0s/containerd.toml", "/etc/k0s/containerd.d/*"),
        "/etc/k0s/containerd.d/nvidia.toml",
        "systemctl restart k0scontroller (or k0sworker)",
    ),
    Distribution(
        "Docker",
        ("/run/docker/containerd/*", "/var/run/docker/containerd/*"),
        (),
        (),
        "nothing: dockerd makes it anew, and no Kubernetes reads it (engine configure docker)",
        "systemctl restart docker",
    ),
)

_MANAGED = "# k0s_managed=true"
"""In the first lines of /etc/k0s/containerd.toml as long as k0s writes it."""


class Daemon(NamedTuple):
    """The containerd that reads a file."""

    program: str | None
    distribution: Distribution | None = None


def daemon_of(path: str, usual: str, told: str | None, machine: Machine) -> Daemon:
    """The containerd that reads a file.

    Args:
        path: of the file.
        usual: the file of a containerd that is told none.
        told: the program, if a person has said it.
        machine: where they are.

    Raises:
        CdiGenError: there is more than one that might, or the one that does is not found.
    """
    distribution = _distribution(path)
    running = dict(_running(usual, machine))
    if told or path in running:
        return Daemon(told or running[path], distribution)
    if distribution:
        program = machine.first(distribution.programs)
        if program is None and distribution.programs:
            raise CdiGenError(
                f"{path} is of {distribution.name}, and its containerd is not found, whose version "
                "decides what may be written",
                hint=f"say where it is: {OPTION} PATH",
            )
        return Daemon(program, distribution)
    in_path = machine.program(PROGRAM)
    if path == usual:
        return Daemon(in_path)
    others = [machine.first(each.programs) for each in DISTRIBUTIONS]
    programs = dict.fromkeys(filter(None, (in_path, *running.values(), *others)))
    if len(programs) > 1:
        raise CdiGenError(
            f"{path}: which containerd reads it? There are {', '.join(programs)}, and their "
            "versions decide what may be written",
            hint=f"say which: {OPTION} PATH",
        )
    return Daemon(next(iter(programs), None))


def _distribution(path: str) -> Distribution | None:
    for each in DISTRIBUTIONS:
        if any(fnmatchcase(path, pattern) for pattern in each.files):
            return each
    return None


def _running(usual: str, machine: Machine) -> list[tuple[str, str]]:
    """The configurations and programs of all containerds that run."""
    found = []
    for program, words in machine.processes(PROGRAM):
        path = usual
        for word, following in zip(words, [*words, ""][1:], strict=True):
            name, equals, value = word.partition("=")
            if name in {"--config", "-c", "-config"}:
                path = value if equals else following
        found.append((path, program))
    return found


def is_template(path: str, text: str | None) -> bool:
    """Whether a configuration is made of a file, so that nothing may be imported or copied."""
    said = _without_comments(text or "")
    named = path.endswith(".tmpl") or "template" in base_name(path)
    return named or bool(_ACTIONS.search(said) or _VARIABLES.search(said))


def is_drop_in(path: str, distribution: Distribution | None) -> bool:
    """Whether a file is one of several that a distribution puts together."""
    return distribution is not None and parent(path).endswith(".d")


def has_actions(text: str | None) -> bool:
    """Whether a template is no TOML: of Go's ``text/template``, with ``{{ … }}``."""
    return bool(_ACTIONS.search(_without_comments(text or "")))


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def is_made_anew(path: str, text: str | None, distribution: Distribution | None) -> bool:
    """Whether what is written to a file is lost at the next start."""
    if distribution is None:
        return False
    if distribution.name == "k0s" and _MANAGED in (text or ""):
        return True
    return not any(fnmatchcase(path, pattern) for pattern in distribution.sources)
