# SPDX-License-Identifier: Apache-2.0
"""Whether each installed engine reads the version of each spec."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.cdi import consumers
from cdi_gen.cdi.consumers import Consumer
from cdi_gen.doctor import installed_specs
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.engines.spec_directories import includes
from cdi_gen.engines.status import EngineStatus
from cdi_gen.paths import parent
from cdi_gen.store import SpecFile


def examine(host: Host) -> Iterator[Finding]:
    """Yield the files that an engine ignores for its version, or that need a newer one."""
    files = installed_specs.files_of_nvidia(host)
    if not files:
        raise NotApplicable("no spec of NVIDIA devices is installed")
    for status in host.engines:
        consumer = _consumer(status)
        if consumer is None:
            continue
        for file in files:
            if file.spec and includes(status.spec_directories, parent(file.path)):
                yield from _refusals(file, file.spec.cdi_version, status, consumer)


def _consumer(status: EngineStatus) -> Consumer | None:
    """Return the CDI support of an engine; None if it has none, or its version is unknown."""
    if status.cdi == "no" or status.version is None:
        return None
    try:
        return consumers.find(f"{status.engine}@{status.version}")
    except consumers.UnknownConsumerError:
        return None


def _refusals(
    file: SpecFile, version: str, status: EngineStatus, consumer: Consumer
) -> Iterator[Finding]:
    engine = f"{status.engine} {status.version}"
    fix = installed_specs.rewrite(file.path, f"--for {status.engine}@{status.version}")
    if not consumer.accepts(version):
        yield Finding(
            "CDG-G006",
            "error",
            f"{file.path} has cdiVersion {version}; {engine} reads {consumer.newest_cdi_version} "
            "and older, and ignores the whole file",
            subject=file.path,
            fix=fix,
        )
        return
    for problem in file.problems:
        if problem.severity != "fatal" and consumer.refuses(problem.refused_by):
            yield Finding(
                problem.code,
                "error",
                f"{file.path}: {problem}: {engine} ignores the whole file",
                subject=file.path,
                fix=fix,
            )


CHECK = Check("spec-versions", "specs", "every engine reads the versions of the specs", examine)
