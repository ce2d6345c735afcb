# SPDX-License-Identifier: Apache-2.0
"""Errors and log lines of the shim: one line, where engines look for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdi_base.findings import SEVERITIES, Finding
from cdi_runtime.config_toml.settings import Configuration
from cdi_runtime.shim import command_line, log

MESSAGES = ["plain", "a\nb", 'quoted "x" \\ y', "\x1b[2J", "é \u2028 \ud800", "x" * 100_000]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: ascii(message)[:20])
@pytest.mark.parametrize("form", ["json", "text", ""])
def test_error_is_one_line_on_stderr_and_in_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], message: str, form: str
) -> None:
    file = tmp_path / "log"
    file.write_text("before\n")
    words = ["--log", str(file), *(["--log-format", form] if form else []), "create", "x"]
    log.report_error(message, "CDG-R201", command_line.parse(words))
    stderr = capfd.readouterr().err
    first, line, *more = file.read_text().splitlines()
    assert (first, more) == ("before", [])
    assert stderr.startswith("cdi-gen-runtime: ")
    for output in (stderr.removesuffix("\n"), line):
        assert output.isascii()
        assert output.isprintable()
        assert len(output) < 8192
        assert "[CDG-R201]" in output
    if form == "json":
        assert f"{json.loads(line)['msg']}\n" == stderr
        assert json.loads(line)["level"] == "error"
    else:
        assert ' level=error msg="cdi-gen-runtime: ' in line


@pytest.mark.parametrize(
    ("given", "path"),
    [("file:{}", "{}"), ("journald:{}", None), ("syslog:{}", None), ("relative", None), ("", None)],
)
def test_log_destinations_of_crun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, path: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    invocation = command_line.parse(["--log", given.format(tmp_path / "log"), "create"])
    log.report_error("x", "CDG-R201", invocation)
    assert (tmp_path / "log").exists() is (path is not None)
    assert len([*tmp_path.iterdir()]) == (path is not None)


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        ("debug", "debug info warning error"),
        ("info", "info warning error"),
        ("warning", "warning error"),
        ("error", "error"),
        ("nonsense", "info warning error"),
    ],
)
def test_log_file_keeps_findings_of_its_level(tmp_path: Path, level: str, kept: str) -> None:
    settings = Configuration()
    settings.debug, settings.log_level = str(tmp_path / "log"), level
    log_file = log.LogFile(settings)
    for severity in SEVERITIES:
        log_file.write(Finding("CDG-R001", severity, "what"))
    levels = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert levels == [f"level={severity}" for severity in kept.split()]


def test_log_line_has_message_and_code(tmp_path: Path) -> None:
    settings = Configuration()
    settings.debug = str(tmp_path / "log")
    log.LogFile(settings).write(Finding("CDG-R001", "info", "warning: 0 of NVIDIA_VISIBLE_DEVICES"))
    text = (tmp_path / "log").read_text()
    assert 'level=info msg="warning: 0 of NVIDIA_VISIBLE_DEVICES [CDG-R001]"' in text
