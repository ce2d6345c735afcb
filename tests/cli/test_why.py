# SPDX-License-Identifier: Apache-2.0
"""``why NAME``: the text, the JSON form, the exit codes, and what it does with hostile files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import ENVIRONMENT, INVENTORY, PROGRAM, SPEC, Result, cdi_gen
from tests.host.looking import SOURCES
from tests.unit.why.broken_specs import GOOD, NAME, node, spec

ENGINE = ("--engine", "podman@5.4.2")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/cdi").mkdir(parents=True)
    return tmp_path


def why(root: Path, *words: str, engine: tuple[str, ...] = ENGINE, **how: Any) -> Result:
    return cdi_gen("why", *words, *engine, "--host-root", str(root), **how)


def write(root: Path, text: str, name: str = "a.json") -> None:
    (root / "etc/cdi" / name).write_text(text)


def test_a_device_that_works_is_one_line(root: Path) -> None:
    write(root, GOOD)
    result = why(root, NAME)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{NAME}\n✓ podman 5.4.2: a container gets the device (/etc/cdi/a.json)\n"


def test_the_cause_comes_with_a_fix_and_what_was_read(root: Path) -> None:
    write(root, spec(version="1.0.0", kind="nvidia.com/gpu", name="0"))
    result = why(root, "nvidia.com/gpu=0")
    assert result.code == 1
    assert result.out.splitlines() == [
        "nvidia.com/gpu=0",
        "✗ podman 5.4.2: the device is not resolved",
        "    reads: /etc/cdi (a.json ignored), /var/run/cdi (absent)",
        (
            "    cause: podman 5.4.2 ignores /etc/cdi/a.json: it claims CDI 1.0.0, and podman 5.4.2 "
            "reads CDI up to 0.8.0 [CDG-S303]"
        ),
        "      fix: sudo cdi-gen generate --for podman@5.4.2 -o /etc/cdi/a.json",
    ]


def test_the_engine_that_fails_comes_first(root: Path) -> None:
    write(root, spec(version="0.8.0"))
    engines = ("--engine", "podman@5.4.2", "--engine", "podman@4.9.3", "--engine", "nerdctl@2.1.2")
    result = why(root, NAME, engine=engines)
    lines = [line for line in result.out.splitlines() if line[0] in "✓✗"]
    assert lines == [
        "✗ podman 4.9.3: the device is not resolved",
        "✓ podman 5.4.2, nerdctl 2.1.2: a container gets the device (/etc/cdi/a.json)",
    ]


def test_signs_are_ascii_where_the_terminal_has_no_others(root: Path) -> None:
    write(root, GOOD)
    assert why(root, NAME, env={"LC_ALL": "C"}).out.splitlines()[1].startswith("ok podman")


def test_json_has_every_file_and_directory(root: Path) -> None:
    write(root, GOOD)
    write(root, "{", "b.json")
    (answer,) = json.loads(why(root, NAME, "-o", "json").out)["answers"]
    assert answer["outcome"] == "works"
    assert (answer["engine"], answer["version"], answer["rootless"]) == ("podman", "5.4.2", False)
    etc, run = answer["directories"]
    assert [(file["path"], file["state"]) for file in etc["files"]] == [
        ("/etc/cdi/a.json", "used"),
        ("/etc/cdi/b.json", "ignored"),
    ]
    assert etc["files"][1]["finding"]["code"] == "CDG-S003"
    assert (run["path"], run["state"]) == ("/var/run/cdi", "absent")


def test_several_names_are_answered_in_their_order(root: Path) -> None:
    write(root, GOOD)
    result = why(root, NAME, "example.com/gpu=1")
    assert result.code == 1
    assert [line for line in result.out.splitlines() if "=" in line[:20]] == [
        NAME,
        "example.com/gpu=1",
    ]


def test_an_inventory_describes_the_gpus_of_another_host(root: Path) -> None:
    write(root, SPEC)
    options = ("--spec-dir", str(root / "etc/cdi"), "--inventory", INVENTORY)
    result = cdi_gen("why", "nvidia.com/gpu=gpu0", *ENGINE, *options)
    assert "--device nvidia.com/gpu=0" in result.out


def test_an_unknown_version_is_not_guessed(root: Path) -> None:
    """A Docker of another root cannot be asked: CDI may be on or off."""
    write(root, GOOD)
    program = root / "usr/bin/dockerd"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    result = why(root, NAME, engine=())
    assert result.code == 4
    assert "CDG-Y003" in result.out
    assert "fix: name the version: --engine docker@VERSION" in result.out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--engine", "rkt"), "CDG-U003"),
        (("--engine", "podman@new"), "CDG-U003"),
        (("--user", "nobody-has-this-name"), "CDG-U003"),
    ],
)
def test_what_does_not_exist_is_refused(root: Path, words: tuple[str, ...], code: str) -> None:
    result = why(root, NAME, *words, engine=())
    assert result.code == 2
    assert code in result.err


def test_a_host_without_an_engine(root: Path) -> None:
    result = why(root, NAME, engine=())
    assert result.code == 2
    assert "CDG-Y012" in result.err


def test_no_name_is_a_usage_error(root: Path) -> None:
    assert why(root).code == 2


def test_hostile_specs_do_not_block_and_print_no_control_character(root: Path) -> None:
    os.mkfifo(root / "etc/cdi/a.json")
    (root / "etc/cdi/b.json").symlink_to("/dev/zero")
    write(root, GOOD.replace("gpu0", "\\u001b[31mgpu0\\u202e"), "c.json")
    write(root, GOOD.replace("example.com", "\\u001b]0;x\\u0007"), "\x1b[2J.json")
    result = why(root, NAME)
    assert result.code == 1
    assert all(character.isprintable() or character == "\n" for character in result.out)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
class TestAnotherUser:
    """A user who is not root asks, on a host that everybody can look at."""

    @pytest.fixture
    def open_root(self) -> Iterator[Path]:
        import tempfile

        with tempfile.TemporaryDirectory() as name:
            Path(name).chmod(0o755)
            (Path(name) / "etc/cdi").mkdir(parents=True)
            yield Path(name)

    def ask(self, root: Path, *words: str) -> Result:
        ended = subprocess.run(
            [*PROGRAM, "why", NAME, *words, "--host-root", str(root)],
            env=ENVIRONMENT | {"PYTHONPATH": SOURCES, "HOME": "/"},
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return Result(ended.returncode, ended.stdout, ended.stderr)

    def test_what_only_root_may_read_is_not_known(self, open_root: Path) -> None:
        """Podman of root reads the file, Podman of the user does not."""
        write(open_root, GOOD)
        (open_root / "etc/cdi/a.json").chmod(0o600)
        result = self.ask(open_root, *ENGINE, "-o", "json")
        assert result.err == ""
        outcomes = {
            answer["rootless"]: (answer["outcome"], answer["findings"][0]["code"])
            for answer in json.loads(result.out)["answers"]
        }
        assert outcomes == {False: ("unknown", "CDG-Y003"), True: ("unresolved", "CDG-F107")}
        assert result.code == 1

    def test_a_rootless_engine_needs_the_node_of_the_host(self, open_root: Path) -> None:
        """Root's engine creates it."""
        write(open_root, node(type="c", major=1, minor=3))
        result = self.ask(open_root, *ENGINE, "-o", "json")
        outcomes = {
            answer["rootless"]: answer["outcome"] for answer in json.loads(result.out)["answers"]
        }
        assert outcomes == {False: "works", True: "fails"}

    def test_a_node_that_the_user_may_not_use(self, open_root: Path) -> None:
        """NVreg_DeviceFileMode=0660: the container starts, and CUDA cannot open the node."""
        numbers = {"type": "c", "major": 195, "minor": 0}
        write(open_root, spec(deviceNodes=[{"path": "/dev/nvidia0", **numbers}]))
        (open_root / "dev").mkdir()
        os.mknod(open_root / "dev/nvidia0", 0o020660, os.makedev(195, 0))
        (open_root / "dev/nvidia0").chmod(0o660)
        result = self.ask(open_root, *ENGINE, "-o", "json")
        (answer,) = (answer for answer in json.loads(result.out)["answers"] if answer["rootless"])
        assert answer["outcome"] == "broken"
        assert answer["findings"][0]["code"] == "CDG-Y005"
        assert "may not use /dev/nvidia0 (mode 0660" in answer["findings"][0]["message"]
        assert answer["findings"][0]["fix"] == "sudo chmod 0666 /dev/nvidia0"

    def test_a_node_that_the_driver_restricts(self, open_root: Path) -> None:
        """The driver undoes chmod."""
        numbers = {"type": "c", "major": 195, "minor": 0}
        write(open_root, spec(deviceNodes=[{"path": "/dev/nvidia0", **numbers}]))
        parameters = open_root / "proc/driver/nvidia/params"
        parameters.parent.mkdir(parents=True)
        parameters.write_text("DeviceFileUID: 0\nDeviceFileGID: 44\nDeviceFileMode: 432\n")
        (open_root / "dev").mkdir()
        os.mknod(open_root / "dev/nvidia0", 0o020660, os.makedev(195, 0))
        os.chown(open_root / "dev/nvidia0", 0, 44)
        result = self.ask(open_root, *ENGINE, "-o", "json")
        (answer,) = (answer for answer in json.loads(result.out)["answers"] if answer["rootless"])
        finding = next(item for item in answer["findings"] if item["code"] == "CDG-Y005")
        assert finding["fix"].startswith("sudo usermod -aG 44 ")
        assert "--group-add keep-groups" in finding["fix"]

    def test_another_users_engines_need_root(self, open_root: Path) -> None:
        result = self.ask(open_root, "--user", "root")
        assert result.code == 2
        assert "only root can say" in result.err


@pytest.mark.parametrize("option", ["--container", "--user"])
def test_a_number_of_very_many_digits(option: str) -> None:
    """Python converts at most 4300 digits."""
    name = [] if option == "--container" else ["nvidia.com/gpu=all"]
    result = cdi_gen("why", *name, option, "9" * 5000)
    assert result.code in {1, 2}
    assert "Traceback" not in result.err
