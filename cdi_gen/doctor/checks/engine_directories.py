# SPDX-License-Identifier: Apache-2.0
"""Whether the installed engines read the directories where the specs are."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import installed_specs
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.engines.spec_directories import includes
from cdi_gen.engines.status import EngineStatus
from cdi_gen.paths import parent


def examine(host: Host) -> Iterator[Finding]:
    """Yield the engines that read no spec of NVIDIA devices, or not all of them."""
    statuses = [status for status in host.engines if status.cdi in {"on", "unknown"}]
    if not statuses:
        raise NotApplicable("no engine with CDI devices is installed")
    files = installed_specs.files_of_nvidia(host)
    if not files:
        raise NotApplicable("no spec of NVIDIA devices is installed")
    found = list(dict.fromkeys(parent(file.path) for file in files))
    for status in statuses:
        if not any(includes(status.spec_directories, directory) for directory in found):
            yield _finding(host, status, found)
            continue
        for finding in status.findings:
            if finding.code in {"CDG-E103", "CDG-E115"}:
                # It reads a spec, so this is no fault.
                yield Finding(
                    finding.code, "info", finding.message, subject=finding.subject, fix=finding.fix
                )


def _finding(host: Host, status: EngineStatus, found: list[str]) -> Finding:
    name = f"{'rootless ' if status.rootless else ''}{status.engine} {status.version or ''}".strip()
    read = " and ".join(status.spec_directories) or "no directory"
    fix = f"cdi-gen engine configure {status.engine}"
    if status.spec_directories:
        # The last directory has priority.
        target = status.spec_directories[-1]
        command = "sudo cdi-gen generate" if _is_of_root(host, target) else "cdi-gen generate"
        fix = f"{command} -o {target}/nvidia.json"
    where = "" if status.source == "default" else f" ({status.source})"
    return Finding(
        "CDG-A201",
        "error",
        f"{name} reads specs only in {read}{where}, and the specs are in {' and '.join(found)}",
        subject=status.engine,
        fix=fix,
    )


def _is_of_root(host: Host, directory: str) -> bool:
    """Whether only root writes to a directory: it is not one of the user's own."""
    users = (host.variable("HOME"), host.variable("XDG_RUNTIME_DIR"), f"/run/user/{host.uid}")
    return host.uid == 0 or not directory.startswith(tuple(f"{path}/" for path in users if path))


CHECK = Check("engine-directories", "engines", "every engine reads the specs", examine)
