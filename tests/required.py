# SPDX-License-Identifier: Apache-2.0
"""``REQUIRE=1``: a skipped test is a failure, except for the skips that are listed here.

Without it a test that cannot run on a machine is skipped with the reason. On CI, where every tool can
be installed, such a skip would hide that something is not tested any more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import NamedTuple, TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


class AllowedSkip(NamedTuple):
    """A skip that CI may have."""

    tests: str
    """Start of the tests' node ids."""
    reason: str
    """Regular expression for the whole reason of the skip."""
    why: str
    """Why no installation can change it."""


ALLOWED = (
    AllowedSkip("tests/gpu/", "no NVIDIA GPU on this machine", "CI has no GPU"),
    AllowedSkip(
        "tests/gpu/",
        "(?s)no overlay of / on this machine: .*",
        "the file system of a CI job's root may be an overlay itself",
    ),
    AllowedSkip(
        "tests/cli/test_interrupted.py",
        "(?s)strace cannot trace here: .*",
        "a CI job in a container may not trace processes",
    ),
    AllowedSkip(
        "tests/attack/test_in_a_runtime.py",
        "this driver is configured not to create device nodes",
        "the driver of a real GPU",
    ),
    AllowedSkip(
        "tests/attack/test_reading.py",
        "no (configfs|efivarfs|debugfs|tracefs|securityfs|pstore|bpf) here",
        "file systems that a kernel or a container does not have",
    ),
    AllowedSkip(
        "tests/attack/test_engine_configuration_races.py",
        "this file system has no leases",
        "the file system under the temporary directory",
    ),
    AllowedSkip(
        "tests/prestart/",
        "this machine has no devices controller of version 1",
        "control groups are of version 1 or 2, and no machine has both controllers",
    ),
    AllowedSkip(
        "tests/prestart/",
        "no control group can be made: .*|this machine has no control groups of version 2",
        "a CI job in a container may not make control groups",
    ),
    AllowedSkip(
        "tests/prestart/",
        "no device filter can be attached here|systemd does not start in a namespace here",
        "a CI job in a container may not load BPF programs or start an init",
    ),
    AllowedSkip(
        "tests/systemd/",
        "(?s)systemd does not start in a namespace here: .*|no control group can be made: .*"
        "|this machine has no control groups of version 2|this machine has no PCI device",
        "a CI job in a container may not start an init, and a virtual machine may lack a PCI bus",
    ),
    AllowedSkip(
        "tests/watch/test_uevents.py",
        "this kernel has no events for this process|no event can be sent: .*"
        "|the events of this kernel do not reach this network namespace"
        "|no network namespace can be made",
        "a CI job in a container may not write to /sys",
    ),
    AllowedSkip(
        "tests/engine/test_specs_devices.py::test_the_nodes_of_another_gpu_stay_shut",
        "an unprivileged user has no device control group, and can make no node",
        "one of the engines that the test is for is rootless",
    ),
    AllowedSkip(
        "tests/engine/test_specs_options.py::test_the_container_has_its_gpu",
        "this machine's rootless engines may not mount sysfs",
        "a rootless engine in the lab's namespaces",
    ),
    AllowedSkip(
        "tests/",
        ".* cannot be run by another user: .* is closed|.* is closed to others",
        "the checkout or the temporary directory lies where only root may enter",
    ),
    AllowedSkip(
        "tests/",
        "(?s)no .*the mirror may have newer versions.*",
        "Debian's mirrors have only the newest version of a package, until `make lock` pins it",
    ),
    AllowedSkip(
        "tests/compat/test_page_in_browser.py",
        "no Chromium on this machine",
        "distributions other than Debian have it in other packages, or as a snap",
    ),
    AllowedSkip(
        "tests/hook/test_process.py",
        r"no python3\.\d+",
        "a distribution has one Python; the test runs those that are on PATH",
    ),
)


def is_allowed(node: str, reason: str) -> bool:
    return any(
        node.startswith(skip.tests) and re.fullmatch(skip.reason, reason) for skip in ALLOWED
    )


def judged(report: Report) -> Report:
    """The report; of a skip that is not allowed, as a failure."""
    if (
        os.environ.get("REQUIRE") == "1"
        and report.skipped
        and not hasattr(report, "wasxfail")
        and isinstance(report.longrepr, tuple)
    ):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not is_allowed(report.nodeid, reason):
            report.outcome = "failed"
            report.longrepr = (
                f"REQUIRE=1: skipped, and not in the list of tests/required.py: {reason}"
            )
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge what became of a test."""
    return judged((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge what became of a module: it may be skipped as a whole."""
    return judged((yield))
