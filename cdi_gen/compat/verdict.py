# SPDX-License-Identifier: Apache-2.0
"""Decides whether an image's CUDA runs on a host, from their facts alone.

| kind | meaning |
|---|---|
| native | the driver's libcuda supports the image's CUDA version |
| minor-version | an older libcuda of the same major version runs it, with limits |
| forward-compat | the image's own, newer libcuda may be used on this driver and these GPUs |
| no | none of these, or no GPU of the host runs the image's code |
| unknown | a fact that decides is not known |

``requirement`` is the answer of the image's ``NVIDIA_REQUIRE_*``, which may differ: such an
expression lists the drivers that NVIDIA tested, and is not CUDA's rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdi_base import requirement, versions
from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_gen.compat import data, driver_rules, gpu_rules
from cdi_gen.compat.driver_rules import FORWARD_COMPAT, MINOR_VERSION, NATIVE, NO
from cdi_gen.compat.facts import HostFacts, ImageFacts
from cdi_gen.values import Value

UNKNOWN = "unknown"
KINDS = (NATIVE, MINOR_VERSION, FORWARD_COMPAT, NO, UNKNOWN)

ABSENT, SATISFIED, UNSATISFIED = "none", "satisfied", "unsatisfied"

MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le"}
"""What ``uname -m`` prints for an architecture in OCI's words."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Verdict(Value):
    """Whether an image's CUDA runs on a host, and why."""

    kind: str
    """One of ``KINDS``."""
    reasons: tuple[Finding, ...]
    """What decides, most important first; never empty."""
    limits: tuple[Finding, ...] = ()
    """What does not work although the image runs, and what was not compared."""
    requirement: str = ABSENT
    """What ``NVIDIA_REQUIRE_*`` says: ``none``, ``satisfied``, ``unsatisfied``, ``unknown``."""
    requirement_reason: str = ""
    """The clause and the numbers that say so."""

    @property
    def runs(self) -> bool:
        """Whether the image runs."""
        return self.kind not in {NO, UNKNOWN}

    @property
    def differs(self) -> bool:
        """Whether ``NVIDIA_REQUIRE_*`` says the opposite."""
        if self.kind == UNKNOWN:
            return False
        return self.requirement == (UNSATISFIED if self.runs else SATISFIED)


def verdict(image: ImageFacts, host: HostFacts) -> Verdict:
    """Return whether the image's CUDA runs on the host; the host's name has no influence."""
    kind, reasons, limits = _decide(image, host)
    answer, reason = _requirement(image, host)
    result = Verdict(
        kind=kind,
        reasons=reasons,
        limits=(*limits, *(Finding("CDG-M018", "info", text) for text in image.unread)),
        requirement=answer,
        requirement_reason=reason,
    )
    if not result.differs:
        return result
    return Verdict(
        kind=kind,
        reasons=reasons,
        limits=(_difference(result), *result.limits),
        requirement=answer,
        requirement_reason=reason,
    )


_Decision = tuple[str, tuple[Finding, ...], tuple[Finding, ...]]
"""The kind, the reasons and the limits of a verdict."""


def _decide(image: ImageFacts, host: HostFacts) -> _Decision:
    machine = MACHINES.get(image.architecture or "")
    if machine and host.architecture and machine != host.architecture:
        message = (
            f"the image is for {image.architecture}, the host is {host.architecture}: the image's "
            "programs do not run"
        )
        fix = "pull the image for the host's architecture, if its repository has one"
        return NO, (Finding("CDG-M015", "error", message, fix=fix),), ()
    driver = versions.parse(host.driver or "")
    if driver is None:
        fix = "install the NVIDIA driver, or name another host: --inventory FILE"
        return UNKNOWN, (Finding("CDG-M006", "error", "the driver is not known", fix=fix),), ()
    toolkit = data.pair(image.cuda or "")
    if toolkit is None:
        message = "the CUDA version is not known: no variable and no file of the image names it"
        fix = "name the version that its program needs: cdi-gen compat --cuda VERSION"
        return UNKNOWN, (Finding("CDG-M005", "warning", message, fix=fix),), ()
    newest = data.pair(host.cuda or "") or data.branch_cuda(driver)
    if newest is None:
        message = f"the newest CUDA version of driver {host.driver} is not known"
        fix = "nvidia-smi prints the version; cdi-gen compat --data shows how old the tables are"
        return UNKNOWN, (Finding("CDG-M006", "warning", message, fix=fix),), ()
    outcome = driver_rules.outcome(image, host, driver=driver, toolkit=toolkit, newest=newest)
    if outcome.kind == NO:
        return outcome.kind, outcome.reasons, outcome.limits
    faults = {gpu: gpu_rules.fault(image, host, gpu, outcome) for gpu in host.gpus}
    distinct = tuple(dict.fromkeys(fault for fault in faults.values() if fault))
    if faults and all(faults.values()):
        return NO, distinct, ()
    remarks = dict.fromkeys(
        remark
        for gpu, fault in faults.items()
        if fault is None
        for remark in gpu_rules.remarks(image, gpu, toolkit, outcome)
    )
    return outcome.kind, outcome.reasons, (*distinct, *outcome.limits, *remarks)


def _requirement(image: ImageFacts, host: HostFacts) -> tuple[str, str]:
    """Return the answer of the image's NVIDIA_REQUIRE_*, and the clause that gives it."""
    if image.requirements_disabled:
        return ABSENT, f"the image sets {requirement.DISABLE}"
    if not image.requirements:
        return ABSENT, ""
    if host.driver is None:
        return UNKNOWN, "the driver is not known"
    driver = versions.parse(host.driver)
    cuda = host.cuda
    if cuda is None and driver is not None:
        newest = data.branch_cuda(driver)
        cuda = None if newest is None else data.text(newest)
    facts = requirement.Facts(
        cuda,
        host.driver,
        [requirement.GpuFacts(gpu.capability, gpu.brand, gpu.name) for gpu in host.gpus],
    )
    try:
        doubts = requirement.check(image.requirements, facts)
    except HookError as error:
        return UNSATISFIED, str(error)
    if doubts:
        return UNKNOWN, "; ".join(doubts)
    names = ", ".join(name for name, _ in image.requirements)
    return SATISFIED, f"{names}: satisfied by {facts}"


def _difference(result: Verdict) -> Finding:
    if result.runs:
        return Finding(
            "CDG-M019",
            "warning",
            f"NVIDIA's runtime refuses the image although it runs here: "
            f"{result.requirement_reason}",
            fix=f"with --runtime=nvidia or --gpus: -e {requirement.DISABLE}=1; CDI specs do not "
            "check, except with the hook's step check-requirements",
        )
    return Finding(
        "CDG-M019",
        "warning",
        f"NVIDIA's runtime accepts the image although it does not run here: "
        f"{result.requirement_reason}",
        fix="act on the reason above; the variable of the image does not decide",
    )
