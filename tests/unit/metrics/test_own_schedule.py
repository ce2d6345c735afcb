# SPDX-License-Identifier: Apache-2.0
"""When specs, host and device plugin are examined, and what an examination without result leaves."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdi_base.findings import Finding
from cdi_gen.metrics.own import process, schedule
from cdi_gen.metrics.own.model import DoctorState, FindingCount
from cdi_gen.metrics.own.process import ExaminationError, Processes
from cdi_gen.metrics.own.schedule import Examinations, Settings, Task
from cdi_gen.refresh.settings import Layout
from tests.kubernetes.kubelet import wait_until

ANSWER = {
    "findings": [{"code": "CDG-A013", "severity": "warning", "count": 2}],
    "checks": {"ok": 3},
}
STATE = DoctorState(
    findings=(FindingCount(code="CDG-A013", severity="warning", count=2),), checks={"ok": 3}
)


class Scene:
    """Examinations with one task, whose key, answer and clock the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.key: object = 0
        self.now = 1000.0
        self.answer: dict[str, Any] | Exception = ANSWER
        self.requests: list[dict[str, Any]] = []
        self.findings: list[Finding] = []
        task = Task("doctor", 600, 300, 120, lambda _: self.key, DoctorState.of, {"more": 1})
        monkeypatch.setattr(schedule, "tasks", lambda _: (task,))
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(Processes, "run", self._run)
        self.examinations = Examinations(Layout(), Settings(), self.findings.append)

    def _run(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert seconds == 120
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return {**self.answer}

    def runs_after(self, seconds: float, key: object = 0) -> bool:
        """Whether an examination runs so long after the last look, with this key."""
        self.now += seconds
        self.key = key
        before = len(self.requests)
        self.examinations.examine()
        return len(self.requests) > before


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(monkeypatch)
    assert scene.runs_after(0)
    return scene


def test_the_first_look_examines(scene: Scene) -> None:
    assert scene.examinations.state().doctor == STATE
    (request,) = scene.requests
    assert (request["name"], request["more"]) == ("doctor", 1)
    assert request["layout"]["driver_root"] == "/"


def test_an_unchanged_host_is_examined_from_time_to_time(scene: Scene) -> None:
    assert not scene.runs_after(599)
    assert scene.runs_after(1)
    assert not scene.runs_after(599)


def test_a_changed_host_is_examined_earlier(scene: Scene) -> None:
    assert scene.runs_after(300, key=1)
    assert not scene.runs_after(300, key=1)


def test_a_host_that_changes_all_the_time_is_not_examined_all_the_time(scene: Scene) -> None:
    assert not scene.runs_after(299, key=1)
    assert scene.runs_after(1, key=2)
    assert not scene.runs_after(15, key=3)


def test_a_host_without_the_thing_is_not_examined_and_has_no_state(scene: Scene) -> None:
    assert not scene.runs_after(900, key=None)
    state = scene.examinations.state()
    assert (state.doctor, state.examinations) == (None, ())


def test_a_failure_leaves_no_state_and_is_counted(scene: Scene) -> None:
    scene.answer = ExaminationError("no result after 120 s")
    assert scene.runs_after(600)
    state = scene.examinations.state()
    assert state.doctor is None
    (examination,) = state.examinations
    assert (examination.runs, examination.failures) == (2, 1)
    assert examination.fault == "no result after 120 s"


def test_failures_in_a_row_are_reported_once(scene: Scene) -> None:
    for answer in (ExaminationError("a"), ExaminationError("b"), ANSWER, ExaminationError("c")):
        scene.answer = answer
        assert scene.runs_after(600)
    assert [finding.code for finding in scene.findings] == ["CDG-O250", "CDG-O250"]
    assert "the examination of the host failed: a" in scene.findings[0].message


@pytest.mark.parametrize("answer", [{}, {"findings": [], "checks": {}, "later": 1}], ids=str)
def test_an_answer_of_another_version_is_a_failure(scene: Scene, answer: dict[str, Any]) -> None:
    scene.answer = answer
    assert scene.runs_after(600)
    assert scene.examinations.state().doctor is None
    assert "another version" in scene.findings[0].message


def test_settings_choose_what_is_examined() -> None:
    chosen = schedule.settings_of(("specs", "device-plugin"), "http://127.0.0.1:9401/metrics")
    names = [task.name for task in schedule.tasks(chosen)]
    assert names == ["specs", "device-plugin"]
    assert chosen.plugin_metrics == "http://127.0.0.1:9401/metrics"
    assert not schedule.tasks(schedule.settings_of(("none",), ""))


@pytest.fixture
def processes() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.close()


def program(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let this code be the process of an examination."""
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", code))


def test_a_process_that_hangs_is_ended(
    monkeypatch: pytest.MonkeyPatch, processes: Processes
) -> None:
    program(monkeypatch, "import time; time.sleep(1000)")
    with pytest.raises(ExaminationError, match=r"no result after 0\.2 s"):
        processes.run({}, 0.2)


def test_the_programs_of_a_process_that_hangs_are_ended(
    monkeypatch: pytest.MonkeyPatch, processes: Processes, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    code = f"""
import subprocess
program = subprocess.Popen(["sleep", "1000"])
open({str(file)!r}, "w").write(str(program.pid))
program.wait()
"""
    program(monkeypatch, code)

    def run() -> None:
        with pytest.raises(ExaminationError):
            processes.run({}, 1000)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: file.exists() and file.read_text() != "")
    processes.close()
    thread.join(60)  # the program has the pipes of the process
    assert not thread.is_alive()
    wait_until(lambda: not _is_running(int(file.read_text())))


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(3)", "its process ended with status 3"),
        ("raise ValueError('no\\nlibrary')", "status 1: library"),
        ("print('[]')", "its process ended with status 0"),
        ("""print('{"error": {"message": "no gRPC", "code": "CDG-N001"}}')""", "no gRPC"),
    ],
)
def test_a_process_without_an_answer_is_an_error(
    monkeypatch: pytest.MonkeyPatch, processes: Processes, code: str, message: str
) -> None:
    program(monkeypatch, code)
    with pytest.raises(ExaminationError, match=message):
        processes.run({}, 60)


def test_no_process_starts_beside_one_that_cannot_be_ended(
    monkeypatch: pytest.MonkeyPatch, processes: Processes
) -> None:
    """As in a driver that hangs: not even SIGKILL ends it."""
    program(monkeypatch, "import time; time.sleep(1000)")
    monkeypatch.setattr(process, "_kill", lambda _: None)
    monkeypatch.setattr(process, "WAIT_SECONDS", 0.01)
    with pytest.raises(ExaminationError, match="no result"):
        processes.run({}, 0.2)
    with pytest.raises(ExaminationError, match="hangs in the kernel"):
        processes.run({}, 60)
    (left,) = processes._left
    left.kill()
    left.wait()
    program(monkeypatch, """print('{"state": {}}')""")
    assert processes.run({}, 60) == {}


def test_closing_ends_the_thread_in_the_middle_of_an_examination(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program(monkeypatch, "import time; time.sleep(1000)")
    findings: list[Finding] = []
    examinations = Examinations(Layout(), Settings(), findings.append)
    examinations.start()
    wait_until(lambda: examinations._processes._running is not None)
    started = time.monotonic()
    examinations.close()
    assert time.monotonic() - started < 60
    assert examinations._thread is not None
    assert not examinations._thread.is_alive()
    assert not findings
