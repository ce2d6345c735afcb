# SPDX-License-Identifier: Apache-2.0
"""The sign and the word of a verdict: the same in every form, so that no form needs colour."""

from __future__ import annotations

from cdi_base.findings import Finding
from cdi_gen.compat.driver_rules import FORWARD_COMPAT, MINOR_VERSION, NATIVE, NO
from cdi_gen.compat.verdict import UNKNOWN, Verdict

WORDS = {
    NATIVE: "native",
    MINOR_VERSION: "minor",
    FORWARD_COMPAT: "forward",
    NO: "no",
    UNKNOWN: "unknown",
}
MEANINGS = {
    NATIVE: "the driver supports the image's CUDA",
    MINOR_VERSION: "an older driver of the same major CUDA version runs it, with limits",
    FORWARD_COMPAT: "the image's own, newer libcuda may be used on these hosts",
    NO: "the image does not run",
    UNKNOWN: "a fact that decides is not known",
}

RUNS, LIMITED, FAILS, UNSEEN = "runs", "limited", "fails", "unseen"
WORST_FIRST = (FAILS, UNSEEN, LIMITED, RUNS)
SIGNS = {FAILS: "\u2717", UNSEEN: "\u2013", LIMITED: "!", RUNS: "\u2713"}
ASCII_SIGNS = {FAILS: "x", UNSEEN: "-", LIMITED: "!", RUNS: "+"}
SIGN_MEANINGS = {
    FAILS: "does not run",
    UNSEEN: "cannot tell",
    LIMITED: "runs with limits",
    RUNS: "runs",
}


def severity(verdict: Verdict) -> str:
    """Return `FAILS`, `UNSEEN`, `LIMITED` or `RUNS`."""
    if not verdict.runs:
        return FAILS if verdict.kind == NO else UNSEEN
    is_limited = any(limit.severity in {"warning", "error"} for limit in verdict.limits)
    return LIMITED if is_limited else RUNS


def line(finding: Finding) -> str:
    """Return a finding in one line: message, code, what to do."""
    fix = f" Fix: {finding.fix}" if finding.fix else ""
    return f"{finding.message} [{finding.code}]{fix}"


def lines(verdict: Verdict) -> list[str]:
    """Return the reasons and the limits of a verdict, a line each."""
    return [line(finding) for finding in (*verdict.reasons, *verdict.limits)]
