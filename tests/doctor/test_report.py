# SPDX-License-Identifier: Apache-2.0
"""``doctor --report``: what it has and what it does not disclose; ``--inventory`` with any file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_gen.doctor import checks, report
from cdi_gen.doctor.header import header
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.recording import Recording
from cdi_gen.doctor.run import run
from tests.cli.program import INVENTORY, cdi_gen, failure
from tests.doctor.examining import document, log, write
from tests.doctor.test_spec_checks import LOADED, with_spec
from tests.fakehost.hosts import FakeHost

HOME = "/home"
SECRETS = {
    "/etc/hostname": "rack7-dgx\n",
    "/etc/passwd": f"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000:Alice Example:{HOME}/alice:/bin/sh\n",
    "/etc/docker/daemon.json": json.dumps({
        "proxies": {"http-proxy": "http://alice:hunter2@squid.corp.example:3128"},
        "insecure-registries": ["10.20.30.40:5000"],
        "features": {"cdi": True},
        "runtimes": {"nvidia": {"path": f"{HOME}/alice/nvidia-container-runtime"}},
    }),
    "/usr/bin/dockerd": "",
}  # fmt: skip
IDENTIFYING = (
    *("rack7", "alice", "Alice", "hunter2", "squid.corp", "10.20.30.40"),
    "ab100000-c0de",
)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a spec, secrets and a loaded driver, and no GPU."""
    root = tmp_path / "host"
    with_spec(root)
    for path, content in SECRETS.items():
        write(root, path, content)
    (root / "usr/bin/dockerd").chmod(0o755)
    write(root, "/proc/driver/nvidia/version", LOADED)
    (root / "run/systemd/system").mkdir(parents=True)
    log(root, "NVRM: rack7-dgx Xid (PCI:0000:3b:00): 79, pid=1, name=python3")
    return root


def written(host: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The report of a host, and the JSON output of the examination."""
    file = tmp_path / "report.json"
    results = document(host, "--report", str(file))
    return file, results


def results_of(parsed: dict[str, Any]) -> dict[str, list[str]]:
    return {
        check["name"]: [check["status"], *(finding["code"] for finding in check["findings"])]
        for check in parsed["checks"]
    }


def test_checks_give_the_same_results_on_the_report(host: Path, tmp_path: Path) -> None:
    file, results = written(host, tmp_path)
    replayed = cdi_gen("doctor", "--json", "--inventory", str(file))
    assert results_of(json.loads(replayed.out)) == results_of(results)
    assert {status for status, *_ in results_of(results).values()} > {"ok", "fault"}


def test_a_report_of_a_host_with_gpus_gives_the_same_results(
    own_host: Callable[[str], FakeHost], tmp_path: Path
) -> None:
    fake = own_host("550-1gpu")
    with_spec(fake.root)
    file, results = written(fake.root, tmp_path)
    replayed = cdi_gen("doctor", "--json", "--inventory", str(file))
    assert results_of(json.loads(replayed.out)) == results_of(results)
    assert fake.kernel.gpus[0].uuid not in file.read_text()


def test_a_report_names_neither_machine_nor_people(host: Path, tmp_path: Path) -> None:
    text = written(host, tmp_path)[0].read_text()
    assert [word for word in IDENTIFYING if word in text] == []
    assert "host-1" in text
    assert "user-1" in text


def test_redacted_output(host: Path) -> None:
    plain = cdi_gen("doctor", "engine-runtimes", "--host-root", str(host))
    redacted = cdi_gen("doctor", "engine-runtimes", "--host-root", str(host), "--redact")
    assert "alice" in plain.out
    assert redacted.out == plain.out.replace("alice", "user-1")


def test_an_examined_report_is_no_host_to_repair() -> None:
    for option in (("--fix",), ("--report", "x")):
        message = failure(cdi_gen("doctor", *option, "--inventory", INVENTORY), 2)
        assert f"{option[0]} is about this host" in message


HOSTILE = {
    "empty": b"",
    "not-json": b"\x7fELF",
    "not-utf-8": b'{"formatVersion": "\xff"}',
    "a-list": b"[1]",
    "deep": b"[" * 100_000,
    "key-twice": b'{"formatVersion": 1, "formatVersion": 1}',
    "another-format": b'{"kind": "cdi-gen doctor report", "formatVersion": 9}',
    "no-answers": b'{"kind": "cdi-gen doctor report", "formatVersion": 1}',
    "answers-of-another-form": json.dumps(
        {"kind": report.KIND, "formatVersion": 1, "answers": {"read": {"/etc/x": [1]}}}
    ).encode(),
    "an-error-without-fields": json.dumps(
        {"kind": report.KIND, "formatVersion": 1, "answers": {"inventory": {"": {"error": {}}}}}
    ).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_another_file_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(HOSTILE[name])
    message = failure(cdi_gen("doctor", "--inventory", str(file)), 1)
    assert "is neither a report nor an inventory" in message


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_BYTES", 1 << 20)
    file = tmp_path / "file"
    file.write_bytes(b" " * (2 << 20))
    assert "more than 1 MiB" in failure(cdi_gen("doctor", "--inventory", str(file)), 1)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.data())
def test_answers_of_any_form_end_no_check_with_a_traceback(data: st.DataObject) -> None:
    """Every question gets a value that no host would give."""

    class Anything(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            return True

        def __getitem__(self, key: str) -> Any:
            if key not in self.keys():
                self[key] = {"value": data.draw(VALUES)}
            return super().__getitem__(key)

    class Kinds(dict[str, Any]):
        def setdefault(self, key: str, default: Any = None) -> Any:
            return super().setdefault(key, Anything())

    host = Host(recording=Recording(Kinds()))
    header(host)
    for result in run(checks.load(), host):
        assert not re.search("Traceback", result.line)


def test_control_characters_of_a_report_do_not_reach_the_terminal(tmp_path: Path) -> None:
    answers = {"entries": {"/usr/share/containers/oci/hooks.d": {"value": ["\033[2J.json"]}}}
    answers["specs"] = {path: {"value": None} for path in ("/etc/cdi", "/var/run/cdi")}  # type: ignore[dict-item]
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"kind": report.KIND, "formatVersion": 1, "answers": answers}))
    assert "\033" not in cdi_gen("doctor", "--inventory", str(file), "--all").out
