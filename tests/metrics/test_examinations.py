# SPDX-License-Identifier: Apache-2.0
"""The examinations of specs and host on a fake host, each in its real process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_base.findings import Finding
from cdi_gen.doctor import checks
from cdi_gen.metrics.own import specs
from cdi_gen.metrics.own.model import OwnState
from cdi_gen.metrics.own.process import COMMAND
from cdi_gen.metrics.own.schedule import Examinations, Settings
from cdi_gen.refresh.settings import Layout
from tests.cli.program import cdi_gen
from tests.fakehost.hosts import FakeHost
from tests.kubernetes.kubelet import wait_until

Hosts = Callable[[str], FakeHost]


def examined(layout: Layout) -> OwnState:
    findings: list[Finding] = []
    examinations = Examinations(layout, Settings(), findings.append)
    examinations.examine()
    assert not findings
    return examinations.state()


@pytest.fixture
def fresh(own_host: Hosts) -> tuple[FakeHost, Layout]:
    """A host with eight GPUs, and the spec of it."""
    fake = own_host("550-8gpu")
    (fake.root / "etc/cdi").mkdir()
    target = str(fake.root / "etc/cdi/nvidia.json")
    written = cdi_gen("generate", "--host-root", str(fake.root), "--hooks=none", "-o", target)
    assert written.code == 0, written.err
    return fake, Layout(host_root=str(fake.root))


def test_specs_of_the_host_are_fresh(fresh: tuple[FakeHost, Layout]) -> None:
    state = examined(fresh[1]).specs
    assert state is not None
    assert state.is_stale is False
    assert state.differences == {}
    assert {name: number for name, number in state.devices.items() if number} == {"usable": 8}
    (file,) = state.files
    assert file.path == "/etc/cdi/nvidia.json"
    assert file.modified == os.stat(f"{fresh[1].host_root}/etc/cdi/nvidia.json").st_mtime
    assert (state.refreshed, state.refresh_exit_code) == (None, None)


def test_links_of_the_host_lead_to_directories_of_the_host(
    fresh: tuple[FakeHost, Layout],
) -> None:
    """/var/run is a link to /run, which is another directory in a container."""
    fake, layout = fresh
    (fake.root / "run/cdi").mkdir(parents=True, exist_ok=True)
    (fake.root / "etc/cdi/nvidia.json").rename(fake.root / "run/cdi/nvidia.json")
    (fake.root / "var").mkdir(exist_ok=True)
    (fake.root / "var/run").unlink(missing_ok=True)
    (fake.root / "var/run").symlink_to("/run")
    state = examined(layout).specs
    assert state is not None
    assert [file.path for file in state.files] == ["/run/cdi/nvidia.json"]
    assert state.devices["usable"] == 8


def test_a_gpu_that_is_gone_is_noticed_and_makes_the_specs_stale(
    fresh: tuple[FakeHost, Layout],
) -> None:
    fake, layout = fresh
    before = specs.key(layout)
    assert specs.key(layout) == before
    address = sorted(os.listdir(fake.root / "proc/driver/nvidia/gpus"))[7]
    shutil.rmtree(fake.root / f"proc/driver/nvidia/gpus/{address}")
    assert specs.key(layout) != before
    state = examined(layout)
    assert state.specs is not None
    assert state.specs.is_stale
    assert set(state.specs.differences) == {"CDG-V107"}
    assert state.specs.devices["stale"] == 1
    assert state.doctor is not None
    assert ("CDG-V107", "error") in {
        (finding.code, finding.severity) for finding in state.doctor.findings
    }
    assert state.doctor.checks["fault"]


def test_the_result_of_a_refresh_is_noticed(fresh: tuple[FakeHost, Layout]) -> None:
    fake, layout = fresh
    before = specs.key(layout)
    directory = fake.root / "run/cdi-gen"
    directory.mkdir(parents=True)
    (directory / "refresh-result.json").write_text('{"time": 1.5, "exit_code": 5}')
    assert specs.key(layout) != before
    state = examined(layout).specs
    assert state is not None
    assert (state.refreshed, state.refresh_exit_code) == (1.5, 5)


def test_a_host_without_a_driver_is_neither_fresh_nor_stale(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    state = examined(Layout(host_root=str(tmp_path)))
    assert state.specs is not None
    assert (state.specs.is_stale, state.specs.devices) == (None, {})
    assert state.device_plugin is None  # no kubelet
    assert state.doctor is not None
    assert state.doctor.checks["fault"] == 0
    # Without those of the user, whom the service does not serve.
    expected = [check.name for check in checks.load() if check.group != "rootless"]
    assert sum(state.doctor.checks.values()) == len(expected) < len(checks.load())


def test_the_process_has_the_lowest_priority(tmp_path: Path) -> None:
    request: dict[str, Any] = {"name": "specs", "layout": Layout(host_root=str(tmp_path))._asdict()}
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        # It lowers its priority before it reads the request.
        wait_until(lambda: os.getpriority(os.PRIO_PROCESS, process.pid) == 19)
        process.communicate(json.dumps(request | {"seconds": 60}).encode(), timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_the_process_loads_only_what_its_examination_needs() -> None:
    code = "import sys; import cdi_gen.metrics.own.schedule; print(*sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    loaded = {
        name.removeprefix("cdi_gen.").partition(".")[0]
        for name in modules
        if name.startswith("cdi_gen.")
    }
    assert loaded <= {"doctor", "errors", "host", "metrics", "paths", "refresh"}
    assert not {"grpc", "yaml", "cdi_gen.doctor.host", "cdi_gen.refresh.staleness"} & {*modules}
