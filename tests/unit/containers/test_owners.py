# SPDX-License-Identifier: Apache-2.0
"""The unit of systemd and the user that a container belongs to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdi_gen.containers.owners import unit, user_name, user_of_groups, user_of_namespace
from cdi_gen.containers.procfs import ProcessDirectory
from cdi_gen.containers.records import Tree

ID = "9c2f6c16c3c79b8af6e35d6ff329cb144d72aa20e54c2ef0cc765dee7d81029a"
MANAGER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/system.slice/web.service/libpod-payload-{ID}", "web.service"),
        (f"{MANAGER}/app.slice/web.service/libpod-payload-{ID}", "web.service"),
        (f"{MANAGER}/user.slice/libpod-{ID}.scope/container", ""),
        (f"/machine.slice/libpod-{ID}.scope/container/system.slice/sshd.service", ""),
        (f"/system.slice/docker-{ID}.scope/init.scope", ""),
        ("/user.slice/user-0.slice/session-3.scope", "session-3.scope"),
        ("/system.slice/batch.service/job-7", "batch.service"),
        ("/system.slice/crun-job.scope", ""),
        ("/init.scope", ""),
        ("/", ""),
    ],
)
def test_unit(path: str, expected: str) -> None:
    assert unit({"": path}) == expected
    assert unit({"": "/", "name=systemd": path, "devices": "/other.service"}) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{MANAGER}/user.slice/libpod-{ID}.scope", 1000),
        (f"/machine.slice/libpod-{ID}.scope/container/user@1000.service", None),
        ("/user.slice/user-1000.slice/session-3.scope", None),
        ("/system.slice/user@x.service", None),
    ],
)
def test_user_of_groups(path: str, expected: int | None) -> None:
    """Of a session root may be the user, by sudo; the user's manager starts the user's programs."""
    assert user_of_groups({"": path}) == expected


def test_user_of_namespace_is_its_owner() -> None:
    with ProcessDirectory(os.getpid()) as directory:
        assert user_of_namespace(directory) == 0


@pytest.mark.parametrize(
    ("accounts", "expected"),
    [
        ("root:x:0:0::/:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n", "ann"),
        ("bob:x:10000:1000::/:/bin/sh\nbroken\n", "1000"),
        (None, "1000"),
    ],
)
def test_user_name(tmp_path: Path, accounts: str | None, expected: str) -> None:
    if accounts is not None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/passwd").write_text(accounts)
    root = os.open(tmp_path, os.O_PATH)
    assert user_name(1000, Tree(root)) == expected
    os.close(root)


def test_accounts_that_are_no_file_do_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    root = os.open(tmp_path, os.O_PATH)
    assert user_name(1000, Tree(root)) == "1000"
    os.close(root)
