# SPDX-License-Identifier: Apache-2.0
"""Whether engines can read the spec files."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from cdi_base.findings import Finding
from cdi_gen.cdi.problem import Problem
from cdi_gen.doctor import installed_specs
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.refresh import effective_specs
from cdi_gen.store import SpecFile

OTHER_CHECKS = frozenset({"CDG-F107", "CDG-F108", "CDG-S302", "CDG-S303", "CDG-S409"})
"""Codes that the checks of permissions, versions and hooks report."""
NOT_A_DIRECTORY = "cannot be read: Not a directory"
"""The subject of the check of directories."""


def examine(host: Host) -> Iterator[Finding]:
    """Yield the problems for which engines ignore a file, or a container does not start."""
    files = installed_specs.registry(host).files
    if not files:
        raise NotApplicable("the spec directories have no file")
    for file in files:
        if file.spec is None or effective_specs.is_of_nvidia(file.spec.kind):
            problems = [
                problem
                for problem in file.problems
                if problem.code not in OTHER_CHECKS and problem.message != NOT_A_DIRECTORY
            ]
            for problem in problems:
                if problem.severity != "warning":
                    yield _finding(file, problem)


def _finding(file: SpecFile, problem: Problem) -> Finding:
    fix = installed_specs.rewrite(file.path)
    if file.spec is None and not installed_specs.is_own(file.path):
        # The file may be of another vendor.
        fix = (
            f"sudo rm {quote(file.path)}  # then write it again with its program; all "
            f"problems: cdi-gen validate {quote(file.path)}"
        )
    return Finding(
        problem.code,
        "error" if problem.severity == "fatal" else "warning",
        f"{file.path}: {problem}: {problem.consequence}",
        subject=file.path,
        fix=fix,
    )


CHECK = Check("spec-validity", "specs", "every spec file is valid", examine)
