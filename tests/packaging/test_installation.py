# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen install` and `cdi-gen uninstall`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cdi_gen.programs.installation import RECORD
from tests.architecture.test_layers import modules_after
from tests.cli.program import CHECKOUT, Result, cdi_gen

LINK = "usr/bin/nvidia-cdi-hook"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with directories and files of other programs."""
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/podman").write_text("another program")
    (root / "usr/lib/systemd/system").mkdir(parents=True)
    (root / "usr/lib/systemd/system/docker.service").write_text("another unit")
    return root


def entries(root: Path) -> dict[str, bytes | str | None]:
    """Content of every file, text of every link, None for a directory."""
    return {
        str(path.relative_to(root)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in root.rglob("*")
    }


def install(root: Path, *options: str) -> Result:
    return cdi_gen("install", "--root", str(root), "--prefix", "/usr", *options)


def uninstall(root: Path) -> Result:
    return cdi_gen("uninstall", "--root", str(root))


def test_exactly_what_was_installed_is_removed(root: Path) -> None:
    before = entries(root)
    done = install(root, "--nvidia-cdi-hook")
    assert done.code == 0
    assert "systemctl enable --now cdi-gen.service cdi-gen-watch.service\n" in done.err
    installed = entries(root)
    assert installed[LINK] == "../libexec/cdi-gen/nvidia-cdi-hook"
    units = [
        path
        for path, content in installed.items()
        if path.startswith("usr/lib/systemd/system/cdi-gen") and content is not None
    ]
    assert units
    assert "usr/lib/udev/rules.d/90-cdi-gen.rules" in installed
    assert "usr/share/containers/systemd/container.d/10-cdi-gen.conf" in installed
    for path in units:
        content = installed[path]
        assert isinstance(content, bytes)
        assert b"@BINDIR@" not in content
    assert any(b"ExecStart=/usr/bin/cdi-gen " in (installed[path] or b"") for path in units)
    hook = root / "usr/libexec/cdi-gen/cdi-gen-hook"
    subprocess.run([hook, "--version"], check=True, capture_output=True)
    assert uninstall(root).code == 0
    assert entries(root) == before


def test_a_second_installation_is_removed_as_a_whole_too(root: Path) -> None:
    before = entries(root)
    assert install(root, "--nvidia-cdi-hook").code == 0
    assert install(root).code == 0
    assert uninstall(root).code == 0
    assert entries(root) == before


def test_a_unit_of_an_earlier_version_is_removed(root: Path) -> None:
    assert install(root).code == 0
    record = root / RECORD[1:]
    document = json.loads(record.read_text())
    unit = "/usr/lib/systemd/system/cdi-gen.service"
    old = "/usr/lib/systemd/system/cdi-gen-old.service"
    document["files"][old] = document["files"][unit]
    record.write_text(json.dumps(document))
    Path(f"{root}{old}").write_bytes(Path(f"{root}{unit}").read_bytes())
    assert install(root).code == 0
    assert not Path(f"{root}{old}").exists()


def test_a_file_that_was_changed_stays(root: Path) -> None:
    assert install(root).code == 0
    unit = root / "usr/lib/systemd/system/cdi-gen.service"
    unit.write_text("changed by the administrator")
    result = uninstall(root)
    assert result.code == 0
    assert "CDG-P102" in result.err
    assert unit.read_text() == "changed by the administrator"
    assert not (root / RECORD[1:]).exists()


def test_the_program_of_another_package_stays(root: Path) -> None:
    (root / LINK).write_text("NVIDIA's")
    result = install(root, "--nvidia-cdi-hook")
    assert result.code == 1
    assert "CDG-P005" in result.err
    assert uninstall(root).code == 0
    assert (root / LINK).read_text() == "NVIDIA's"


def test_an_installation_that_was_killed_is_removed(root: Path) -> None:
    """At every tenth rename, which is the step that makes a file visible."""
    before = entries(root)
    killer = (
        "import os, signal, sys\n"
        "from cdi_gen.cli import run\n"
        "renames, last, rename = 0, int(sys.argv[1]), os.rename\n"
        "def counted(*words, **named):\n"
        "    global renames\n"
        "    renames += 1\n"
        "    if renames > last: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    rename(*words, **named)\n"
        "os.rename = counted\n"
        "sys.exit(run(['install', '--prefix', '/usr', '--root', sys.argv[2]]))\n"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (CHECKOUT, CHECKOUT / "hooks", CHECKOUT / "specs"))))  # fmt: skip
    last, killed = 1, True
    while killed:
        done = subprocess.run(
            [sys.executable, "-c", killer, str(last), root],
            check=False, capture_output=True, env=environment, timeout=120,
        )  # fmt: skip
        killed = done.returncode == -signal.SIGKILL
        assert killed or done.returncode == 0, done.stderr
        assert uninstall(root).code == 0
        assert entries(root) == before
        last += 10
    assert last > 50


@pytest.mark.parametrize(
    ("content", "code"),
    [("{", "CDG-P012"), ("[]", "CDG-P012"), ('{"format": 2}', "CDG-P012"), (None, "CDG-P013")],
)
def test_without_a_usable_record_nothing_is_removed(
    root: Path, content: str | None, code: str
) -> None:
    assert install(root).code == 0
    record = root / RECORD[1:]
    record.unlink()
    if content is not None:
        record.write_text(content)
    before = entries(root)
    result = uninstall(root)
    assert result.code == 1
    assert code in result.err
    assert entries(root) == before


@pytest.mark.parametrize(
    "path", ["relative", "/usr/../../etc/passwd", "/a\0b", "/a\ud800"], ids=ascii
)
def test_a_record_names_no_path_outside_the_root(root: Path, path: str) -> None:
    assert install(root).code == 0
    record = root / RECORD[1:]
    document = json.loads(record.read_text())
    document["files"][path] = "0" * 64
    record.write_text(json.dumps(document))
    assert "CDG-P012" in uninstall(root).err


def test_a_record_that_others_can_write_is_not_read(root: Path) -> None:
    assert install(root).code == 0
    (root / RECORD[1:]).chmod(0o666)
    result = uninstall(root)
    assert result.code == 7
    assert "CDG-P012" in result.err


def test_two_prefixes_are_rejected(root: Path) -> None:
    assert install(root).code == 0
    before = entries(root)
    result = cdi_gen("install", "--root", str(root), "--prefix", "/opt/cdi-gen")
    assert "CDG-P011" in result.err
    assert entries(root) == before


def test_units_do_not_run_a_program_that_a_user_can_change(tmp_path: Path) -> None:
    """pipx installs to the user's home."""
    program = tmp_path / "cdi-gen"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    result = cdi_gen("install", "--program", str(program))
    assert result.code == 7
    assert "CDG-P004" in result.err
    assert "pipx install --global" in result.err
    assert not Path(RECORD).exists()


@pytest.mark.parametrize("command", ["install", "uninstall", "hook install"])
@pytest.mark.parametrize(
    ("kind", "reason"), [("nothing", "does not exist"), ("file", "is not a directory")]
)
def test_a_mistyped_root_gets_a_hint_and_no_file(
    tmp_path: Path, command: str, kind: str, reason: str
) -> None:
    """All directories of the path were created."""
    path = tmp_path / "mistyped"
    if kind == "file":
        path.touch()
    result = cdi_gen(*command.split(), "--root", str(path))
    assert result.code == 1
    assert f"the root {path} {reason} [CDG-P014]" in result.err
    assert "correct --root, or mount the image there" in result.err
    assert path.exists() == path.is_file() == (kind == "file")


def test_nothing_asks_for_a_gpu() -> None:
    loaded = modules_after("import cdi_gen.cli.install, cdi_gen.programs.installation")
    assert not [name for name in loaded if "nvml" in name]


def test_an_unreadable_directory_of_units_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from cdi_gen.errors import CdiGenError
    from cdi_gen.programs import host_files

    monkeypatch.setattr(host_files, "_source", lambda: "/nonexistent")
    with pytest.raises(CdiGenError, match="units of cdi-gen cannot be read"):
        host_files.host_files("/usr", "/usr/bin/cdi-gen")
