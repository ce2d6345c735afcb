# SPDX-License-Identifier: Apache-2.0
"""What becomes of a request: the mechanism, what is injected, what is wrong, and what works."""

from __future__ import annotations

from typing import Literal, NamedTuple

from cdi_base.findings import Finding
from cdi_gen.why.command.request import ContainerRequest
from cdi_gen.why.mechanism.engine_facts import EngineFacts

Mechanism = Literal[
    "cdi", "shim", "prestart-hook", "container-cli", "device-plugin", "dra", "nodes", "none"
]

TITLES: dict[Mechanism, str] = {
    "cdi": "CDI",
    "shim": "the runtime shim",
    "prestart-hook": "the prestart hook",
    "container-cli": "nvidia-container-cli, by a hook of the engine",
    "device-plugin": "the device plugin",
    "dra": "dynamic resource allocation",
    "nodes": "device nodes alone",
    "none": "nothing",
}


class Injection(NamedTuple):
    """What a container gets, in numbers; or why that is not known."""

    nodes: tuple[str, ...] = ()
    """The paths of device nodes in the container."""
    mounts: int = 0
    variables: int = 0
    hooks: int = 0
    is_known: bool = True


class Answer(NamedTuple):
    """The answer for a request and an engine."""

    request: ContainerRequest
    engine: EngineFacts | None
    """None: the engine is not on this host."""
    mechanism: Mechanism
    reason: str
    """Why the engine takes this mechanism."""
    names: tuple[str, ...] = ()
    """The CDI devices that the engine is asked for."""
    words: tuple[str, ...] = ()
    """What the shim or the hook is asked for: NVIDIA_VISIBLE_DEVICES."""
    injection: Injection | None = None
    findings: tuple[Finding, ...] = ()
    working: str = ""
    """A command, or lines of the file, that give the container its devices here."""
    working_after_fix: str = ""
    """The same, once the printed fix is carried out."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer is that of an engine that this host lets us see."""
        return self.engine is not None

    @property
    def has_fault(self) -> bool:
        """Whether the container does not start, or gets no GPU that it asks for."""
        return any(finding.severity == "error" for finding in self.findings)
