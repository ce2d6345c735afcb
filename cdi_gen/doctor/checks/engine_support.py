# SPDX-License-Identifier: Apache-2.0
"""Whether the installed engines support CDI devices, and their configuration can be read."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.engines import facts
from cdi_gen.engines.status import EngineStatus

OTHER_CHECKS = frozenset({"CDG-E103", "CDG-E108", "CDG-E115"})
"""Codes that the checks of directories and of ``docker run --gpus`` report."""

UNREADABLE = frozenset({"CDG-E002", "CDG-E003"})
"""Codes of configurations with errors in their syntax."""


def examine(host: Host) -> Iterator[Finding]:
    """Yield the engines without CDI devices, and what their statuses say of their files."""
    if not host.engines:
        raise NotApplicable("no container engine is installed")
    has_cdi = any(status.cdi == "on" for status in host.engines)
    for status in host.engines:
        yield from _support(status, has_cdi=has_cdi)
        yield from (
            _unreadable(finding, status)
            for finding in status.findings
            if finding.severity != "info" and finding.code not in OTHER_CHECKS
        )


def _support(status: EngineStatus, *, has_cdi: bool) -> Iterator[Finding]:
    name = f"{status.engine} {status.version or ''}".strip()
    if status.cdi == "no":
        since = _since(status.engine)
        yield Finding(
            "CDG-E102",
            "warning",
            f"{name} does not support CDI devices; {since} and later do",
            subject=status.engine,
            fix=f"{_shim(status.engine)} or install {status.engine} {since} or later",
        )
    if status.cdi == "off":
        yield Finding(
            "CDG-A203",
            # It is a fault only where no engine gives CDI devices; ctr and nerdctl read specs
            # themselves, whatever containerd does for Kubernetes.
            "warning" if has_cdi or status.engine == "containerd" else "error",
            f"CDI devices are switched off in {name}",
            subject=status.engine,
            fix=f"sudo cdi-gen engine configure {status.engine}{_restart(status.engine)}",
        )


def _shim(engine: str) -> str:
    """The command that gives an engine the runtime shim, and the beginning of a comment."""
    install = "sudo cdi-gen hook install --nvidia-container-runtime"
    if engine == "nerdctl":  # has no configuration of runtimes
        return f"{install}  # then nerdctl run --runtime /usr/bin/nvidia-container-runtime;"
    return f"{install} && sudo cdi-gen engine configure {engine} --runtime  #"


def _unreadable(finding: Finding, status: EngineStatus) -> Finding:
    """A configuration that the engine cannot read either, as a fault with its consequence."""
    if finding.code not in UNREADABLE:
        return finding
    return Finding(
        finding.code,
        "error",
        f"{finding.message}: {status.engine} does not start, or keeps its old settings",
        subject=finding.subject,
        fix=f"correct {finding.subject}{_restart(status.engine)}",
    )


def _since(engine: str) -> str:
    since: str = getattr(facts, engine)().cdi_since
    return since


def _restart(engine: str) -> str:
    command = getattr(getattr(facts, engine)(), "restart", "")
    return f" && sudo {command}" if command else ""


CHECK = Check("engine-support", "engines", "every engine supports CDI devices", examine)
