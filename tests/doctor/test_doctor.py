# SPDX-License-Identifier: Apache-2.0
"""``cdi-gen doctor`` as a command: selection, output, exit codes, and hosts that show little."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from cdi_base.findings import Finding
from cdi_gen.doctor import checks, output
from cdi_gen.doctor.check import GROUPS, Check, NotApplicable, Result, Unseen
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.recording import Recording
from cdi_gen.doctor.run import exit_code, run_one
from cdi_gen.errors import CdiGenError, NoDriverError
from cdi_gen.findings import explanations
from cdi_gen.host import Where
from tests.cli.program import INVENTORY, cdi_gen, failure
from tests.doctor.examining import doctor, document, healthy, log
from tests.fakehost.hosts import FakeHost

FAULT = Finding("CDG-A001", "error", "it is broken", fix="mend it")
WARNING = Finding("CDG-A043", "warning", "it is odd")
NOTE = Finding("CDG-A042", "info", "by the way")


def check(examine: Callable[[Host], Iterable[Finding]]) -> Check:
    return Check("a-check", "driver", "all is well", examine)


def result(*findings: Finding) -> Result:
    return run_one(check(lambda _: findings), Host())


def raising(error: Exception) -> Result:
    def examine(_: Host) -> Iterator[Finding]:
        yield FAULT
        raise error

    return run_one(check(examine), Host())


@pytest.mark.parametrize(
    ("findings", "status", "line", "code"),
    [
        ((), "ok", "all is well", 0),
        ((NOTE,), "ok", "all is well", 0),
        ((NOTE, WARNING), "warning", "it is odd", 0),
        ((WARNING, FAULT), "fault", "it is broken", 1),
    ],
    ids=["nothing", "note", "warning", "fault"],
)
def test_the_worst_finding_is_the_result(
    findings: tuple[Finding, ...], status: str, line: str, code: int
) -> None:
    found = result(*findings)
    assert (found.status, found.line, exit_code([found])) == (status, line, code)


@pytest.mark.parametrize(
    ("error", "status", "line", "code"),
    [
        (NotApplicable("no switch"), "not-applicable", "no switch", 0),
        (NoDriverError("no driver", code="CDG-H001"), "not-applicable", "no driver", 0),
        (Unseen("closed", "open it"), "unseen", "closed", 4),
        (CdiGenError("odd files", code="CDG-H003"), "unseen", "odd files", 4),
        (KeyError("x"), "unseen", "the check failed: KeyError: 'x'", 4),
    ],
    ids=["not-applicable", "no-driver", "unseen", "error", "bug"],
)
def test_a_check_that_ends_early_is_a_result(
    error: Exception, status: str, line: str, code: int
) -> None:
    found = raising(error)
    assert (found.status, found.line, exit_code([found])) == (status, line, code)


def test_an_answer_of_another_form_is_the_fault_of_the_report() -> None:
    host = Host(recording=Recording({"pci": {"": {"value": [None]}}}))
    (found,) = (run_one(check, host) for check in checks.load() if check.name == "gpu-present")
    assert found.status == "unseen"
    assert found.line.startswith("the report has an answer of another form")
    assert "cdi-gen doctor --report" in found.fix


def test_a_fault_is_worse_than_what_is_not_seen() -> None:
    assert exit_code([raising(Unseen("closed")), result(FAULT)]) == 1


def test_the_text_has_cause_and_fix() -> None:
    text = output.text((), [result(FAULT, NOTE)], explanations(), output.Form())
    assert text.splitlines() == [
        "",
        "Driver",
        "  ✗ a-check  it is broken [CDG-A001]",
        "      cause: The module was unloaded, or was not loaded at boot.",
        "      fix: mend it",
        "      note: by the way [CDG-A042]",
        "",
        "1 check: 1 with a fault",
    ]


def test_the_text_is_safe_for_terminals() -> None:
    hostile = Finding("CDG-A001", "error", "a\033[2Jb\nc", fix="\033]0;x\a")
    text = output.text((), [result(hostile)], explanations(), output.Form(ascii_only=True))
    assert "\033" not in text
    assert "x a-check  a\\x1b[2Jb\\nc" in text
    assert text.isascii()


def test_checks_that_see_nothing_for_one_reason_are_one_line() -> None:
    checks_of_report = [raising(Unseen("the report lacks it", "a new one")) for _ in range(3)]
    other = raising(Unseen("closed", "sudo"))
    text = output.text((), [result(FAULT), *checks_of_report, other], explanations(), output.Form())
    assert text.count("the report lacks it") == text.count("fix: a new one") == 1
    assert "– 3 checks: the report lacks it\n    a-check, a-check, a-check\n" in text  # noqa: RUF001
    assert "  – a-check  closed\n      fix: sudo\n" in text  # noqa: RUF001


def test_names_are_unique_and_groups_exist() -> None:
    names = [check.name for check in checks.load()]
    assert len({*names, *GROUPS}) == len(names) + len(GROUPS)
    assert {check.group for check in checks.load()} <= GROUPS.keys()


def test_an_unknown_check_is_refused_with_a_suggestion() -> None:
    message = failure(cdi_gen("doctor", "driver-version"), 2)
    assert "unknown check 'driver-version'; did you mean driver-versions?" in message


def test_explain_prints_the_page_of_a_code() -> None:
    assert cdi_gen("doctor", "--explain", "a021").out == cdi_gen("explain", "CDG-A021").out


def test_a_host_with_nothing_has_no_fault(tmp_path: Path) -> None:
    """No driver, no GPU, no engine: an empty directory."""
    found = doctor(tmp_path)
    assert (found.code, found.err) == (0, "")


def test_what_a_healthy_host_shows(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-8gpu")
    healthy(fake.root)
    for group in ("driver", "device-nodes", "sharing", "fabric"):
        result = doctor(fake, group)
        assert result.code == 0, result.out
    header = doctor(fake).out.splitlines()[1:3]
    assert header == [
        f"driver   {fake.driver_version} (open kernel module), libraries {fake.driver_version}",
        "GPUs     8 NVIDIA H100 80GB HBM3",
    ]


def test_the_header_counts_gpus_that_the_driver_lacks(host: Callable[[str], FakeHost]) -> None:
    header = doctor(host("550-broken")).out.splitlines()[2]
    assert header == "GPUs     2 NVIDIA H100 80GB HBM3 (5 on the PCI bus)"


def test_an_inventory_of_another_host_is_examined_as_far_as_it_goes() -> None:
    found = cdi_gen(
        "doctor", "driver-versions", "driver-files", "gpu-usable", "--inventory", INVENTORY
    )
    assert (found.code, found.out.count("✓")) == (0, 3)
    found = cdi_gen("doctor", "xid-errors", "--inventory", INVENTORY)
    assert (found.code, "– xid-errors" in found.out) == (4, True)  # noqa: RUF001 - the sign


def test_checks_run_again_on_the_record_of_a_host(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-8gpu")
    log(fake.root, "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.")
    recording = Recording()
    first = [
        run_one(check, Host(Where(str(fake.root)), recording=recording)) for check in checks.load()
    ]
    replay = Host(recording=Recording(recording.answers))
    assert [run_one(check, replay) for check in checks.load()] == first
    assert "fault" in {result.status for result in first}


def test_a_question_that_was_not_recorded_is_not_asked_of_this_host() -> None:
    replay = Host(recording=Recording({}))
    with pytest.raises(Unseen, match="report does not contain"):
        replay.read("/proc/version")


def test_json_has_stable_names(tmp_path: Path) -> None:
    parsed = document(tmp_path)
    assert parsed["formatVersion"] == 1
    assert {check["name"] for check in parsed["checks"]} == {check.name for check in checks.load()}
    assert parsed["checks"][0].keys() == {
        *("name", "group", "title", "status", "line", "fix", "findings"),
    }
