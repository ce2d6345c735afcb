# SPDX-License-Identifier: Apache-2.0
"""Runs checks on a host. A check that fails does not keep the others from running."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdi_base.findings import SEVERITIES
from cdi_gen.doctor.check import Check, NotApplicable, Result, Status, Unseen
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.recording import MISSING
from cdi_gen.errors import CdiGenError, ExitCode, NoDriverError

REPORT_IT = "report it, with: cdi-gen doctor --report FILE"


def run(checks: Iterable[Check], host: Host) -> tuple[Result, ...]:
    """Return the results of the checks, in their order."""
    return tuple(run_one(check, host) for check in checks)


def run_one(check: Check, host: Host) -> Result:
    """Return the result of one check."""
    try:
        findings = sorted(
            check.examine(host), key=lambda finding: -SEVERITIES.index(finding.severity)
        )
    except (NotApplicable, NoDriverError) as reason:
        return Result(check, "not-applicable", str(reason))
    except Unseen as unseen:
        return Result(check, "unseen", unseen.reason, fix=unseen.fix or _as_root(check, host))
    except CdiGenError as error:
        return Result(check, "unseen", error.message, fix=error.hint or "")
    except Exception as error:  # noqa: BLE001 - a fault of one check must not end the others
        message = f"the check failed: {type(error).__name__}: {error}"
        if host.recording.is_replay:
            message = f"the report has an answer of another form than cdi-gen writes: {error}"
            return Result(check, "unseen", message, fix=MISSING.fix)
        return Result(check, "unseen", message, fix=REPORT_IT)
    worst = findings[0].severity if findings else "info"
    status: Status = {"error": "fault", "warning": "warning"}.get(worst, "ok")  # type: ignore[assignment]
    line = check.title if status == "ok" else findings[0].message
    return Result(check, status, line, tuple(findings))


def exit_code(results: Sequence[Result]) -> ExitCode:
    """Return the exit code: 1 if there is a fault, 4 if not all was seen, else 0."""
    statuses = {result.status for result in results}
    if "fault" in statuses:
        return ExitCode.ERROR
    return ExitCode.PARTIAL if "unseen" in statuses else ExitCode.OK


def _as_root(check: Check, host: Host) -> str:
    """Return what sees more: the same check as root, or on the host itself."""
    if host.recording.is_replay:
        return ""
    if host.uid == 0:
        return "run cdi-gen doctor as root on the host itself, not in a container"
    return f"sudo cdi-gen doctor {check.name}"
