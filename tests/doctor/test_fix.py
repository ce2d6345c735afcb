# SPDX-License-Identifier: Apache-2.0
"""``doctor --fix``: what is announced, done and left alone, on fake hosts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cdi_gen.cli.doctor import command
from tests.doctor.examining import doctor, examine
from tests.doctor.test_spec_checks import OURS, with_spec
from tests.fakehost.hosts import FakeHost

OwnHost = Callable[[str], FakeHost]


@pytest.fixture
def fake(own_host: OwnHost) -> FakeHost:
    return own_host("550-1gpu")


def announced(text: str) -> list[str]:
    """What was announced, without the reasons."""
    lines = (line.removeprefix("cdi-gen: ") for line in text.splitlines())
    return [line.partition(":")[0] for line in lines if not line.startswith("  ")]


def test_a_host_without_specs_gets_them(fake: FakeHost) -> None:
    assert examine(fake, "spec-freshness").status == "fault"
    title = "write the specs of this host again, as cdi-gen refresh --force does"
    dry = doctor(fake, "spec-freshness", "--fix", "--dry-run")
    assert (dry.code, announced(dry.err)) == (1, [f"would {title}"])
    assert not (fake.root / OURS.lstrip("/")).exists()
    fixed = doctor(fake, "spec-freshness", "--fix")
    assert (fixed.code, announced(fixed.err)) == (0, [title])
    assert "✓ spec-freshness" in fixed.out
    assert json.loads((fake.root / OURS.lstrip("/")).read_text())["kind"] == "nvidia.com/gpu"


def test_missing_nodes_and_links_are_made(fake: FakeHost) -> None:
    for name in ("nvidia-uvm", "nvidia-uvm-tools", "nvidia0"):
        (fake.root / "dev" / name).unlink()
    (fake.root / "run/systemd/system").mkdir(parents=True)
    fixed = doctor(fake, "device-nodes", "--fix")
    assert announced(fixed.err) == [
        "create the driver's missing device nodes",
        "link the driver's nodes in /dev/char",
    ]
    assert os.major((fake.root / "dev/nvidia-uvm").stat().st_rdev) == 510
    assert (fake.root / "dev/char/195:0").readlink() == Path("/dev/nvidia0")
    assert (fixed.code, doctor(fake, "device-nodes").code) == (0, 0)


def test_our_spec_that_users_cannot_read_is_opened(fake: FakeHost) -> None:
    file = with_spec(fake.root)
    file.chmod(0o600)
    fixed = doctor(fake, "spec-permissions", "--fix")
    assert announced(fixed.err) == [f"open /var{OURS} for reading (mode 0644)"]
    assert (fixed.code, file.stat().st_mode & 0o777) == (0, 0o644)


def test_a_file_of_another_program_is_left_alone(fake: FakeHost) -> None:
    with_spec(fake.root)
    file = with_spec(fake.root, "/etc/cdi/other.json")
    file.chmod(0o600)
    fixed = doctor(fake, "spec-permissions", "--fix")
    assert "there is nothing that --fix repairs" in fixed.err
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_repair_that_fails_is_an_error_and_the_others_are_done(fake: FakeHost) -> None:
    (fake.root / "dev/nvidia0").unlink()
    (fake.root / "run/cdi-gen").mkdir(parents=True)
    os.chown(fake.root / "run/cdi-gen", 1000, 1000)
    fixed = doctor(fake, "missing-nodes", "spec-freshness", "--fix")
    assert "/dev/nvidia0 is created" in fixed.err
    assert "error: cannot write the specs of this host again" in fixed.err
    assert "[CDG-A302]" in fixed.err
    assert fixed.code == 1


def test_only_root_repairs(fake: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    words = ["spec-freshness", "--fix", "--host-root", str(fake.root)]
    result = CliRunner().invoke(command, words)
    assert getattr(result.exception, "code", "") == "CDG-A301"
    assert not (fake.root / OURS.lstrip("/")).exists()
