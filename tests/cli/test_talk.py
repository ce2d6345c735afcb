# SPDX-License-Identifier: Apache-2.0
"""What is data goes to standard output, what is talk to standard error; and the exit codes."""

from __future__ import annotations

import functools
import json
import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from cdi_gen.cli import COMMANDS, main
from cdi_gen.errors import ExitCode
from tests.cli.program import (
    CHECKOUT,
    ENVIRONMENT,
    GOLDEN,
    INVENTORY,
    PROGRAM,
    SPEC,
    Result,
    cdi_gen,
    failure,
    generate,
)

SUBCOMMANDS = (
    *("hook install", "hook run", "runtime prepare", "config show"),
    *("engine list", "engine configure", "engine unconfigure"),
)
NAMES = ("", *COMMANDS, *SUBCOMMANDS, "cdi", "cdi generate")
README = (CHECKOUT / "README.md").read_text()


@functools.cache
def _help(name: str) -> str:
    return cdi_gen(*name.split(), "--help").out


def _partial(tmp_path: Path) -> str:
    """The inventory of a host with a broken GPU."""
    document = json.loads((CHECKOUT / INVENTORY).read_text())
    document["unusableDevices"] = [
        {"device": "0000:5e:00.0", "reason": "fell off the bus", "code": "CDG-H102"}
    ]
    path = tmp_path / "partial.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_standard_output_carries_data_alone() -> None:
    found = generate()
    assert (found.code, found.out) == (0, SPEC)
    assert found.err == ("cdi-gen: nvidia.com/gpu: 1 GPU, driver 550.163.01, CDI 0.5.0, one hook\n")


@pytest.mark.parametrize("command", ["generate", "list", "inventory"])
def test_no_driver_is_exit_code_3(tmp_path: Path, command: str) -> None:
    assert "hint: " in failure(cdi_gen(command, "--host-root", str(tmp_path)), 3)


def test_every_exit_code_is_reached_and_in_the_manual(tmp_path: Path) -> None:
    invalid = tmp_path / "invalid.json"
    invalid.write_text("{}")
    reached = {
        0: generate(),
        1: cdi_gen("generate", "--inventory", str(tmp_path / "missing")),
        2: cdi_gen("generate", "--nonsense"),
        3: cdi_gen("generate", "--host-root", str(tmp_path)),
        4: cdi_gen("generate", "--inventory", _partial(tmp_path)),
        6: cdi_gen("validate", str(invalid)),
    }
    assert {code: found.code for code, found in reached.items()} == {code: code for code in reached}
    for code in ExitCode:  # 5 is not used yet; 7 and 130: test_hook.py, test_interrupted.py
        assert re.search(rf"\b{code:d}\s", _help("")), code
        assert re.search(rf"\b{code:d}\s", README), code


def test_a_broken_device_is_told_and_the_others_are_written(tmp_path: Path) -> None:
    found = cdi_gen("generate", "--inventory", _partial(tmp_path))
    assert (found.code, found.out) == (4, SPEC)
    assert "warning: left out: 0000:5e:00.0: fell off the bus" in found.err


def test_quiet_prints_errors_only(tmp_path: Path) -> None:
    assert generate().err != ""
    assert cdi_gen("-q", "generate", "--inventory", _partial(tmp_path)).err == ""
    assert "error" in failure(cdi_gen("-q", "generate", "--inventory", "missing"), 1)


def test_debug_says_why_something_is_missing() -> None:
    inventory = str(CHECKOUT / "specs/golden/h200-580-1gpu/inventory.json")
    usual = cdi_gen("generate", "--inventory", inventory)
    found = cdi_gen("-d", "generate", "--inventory", inventory)
    assert "missing: " not in usual.err
    assert found.err.count("missing: ") == 2
    assert cdi_gen("-q", "-d", "generate", "--inventory", inventory).err == ""


@pytest.mark.parametrize(
    "arguments", [["generate", "--nonsense"], ["generate", "--vendor", "a\nb"]]
)
def test_json_lines_parse(tmp_path: Path, arguments: list[str]) -> None:
    found = cdi_gen("--log-format", "json", *arguments)
    (entry,) = [json.loads(line) for line in found.err.splitlines()]
    assert entry["level"] == "error"
    found = cdi_gen(
        "generate", "--inventory", _partial(tmp_path), env={"CDI_GEN_LOG_FORMAT": "json"}
    )
    entries = [json.loads(line) for line in found.err.splitlines()]
    assert [entry["level"] for entry in entries] == ["info", "warning"]


def _on_terminal(**variables: str) -> str:
    """What a failing command prints where standard error is a terminal."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "generate", "--nonsense"],
        env=ENVIRONMENT | {"TERM": "xterm"} | variables,
        stdout=subprocess.DEVNULL,
        stderr=slave,
        cwd=CHECKOUT,
    ) as process:
        assert process.wait(20) == 2
        os.close(slave)
        text = os.read(master, 4096).decode()
    os.close(master)
    return text


def test_colour_on_a_terminal_alone() -> None:
    assert "\033[31;1merror\033[0m" in _on_terminal()
    assert "\033" not in _on_terminal(NO_COLOR="1")
    assert "\033" not in _on_terminal(TERM="dumb")
    assert "\033" not in cdi_gen("generate", "--nonsense", env={"TERM": "xterm"}).err


def test_control_characters_stay_visible() -> None:
    told = failure(cdi_gen("generate", "--inventory", "a\033[31m\nb"), 1)
    assert "a\\x1b[31m\\nb" in told


HOSTILE = "\x1b]0;title\x07\n\u202e"


def hostile_spec(tmp_path: Path) -> Path:
    """A spec file whose name, keys and values change a terminal."""
    edits = {"env": ["A=b"], "deviceNodes": [{"path": f"/dev/{HOSTILE}"}], HOSTILE: 1}
    device = {"name": "a", "containerEdits": edits}
    spec = {"cdiVersion": "0.5.0", "kind": "x.com/y", "devices": [device]}
    path = tmp_path / f"{HOSTILE}.json".replace("/", "")
    path.write_text(json.dumps(spec, ensure_ascii=False))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate", "FILE"),
        ("validate", "-o", "json", "FILE"),
        ("generate", "--inventory", INVENTORY, "--dry-run", "-o", "FILE"),
        ("list", "--spec-dir", "DIRECTORY"),
        ("list", "--spec-dir", "DIRECTORY", "-o", "wide"),
        ("show", "x.com/y=a", "--spec-dir", "DIRECTORY"),
        ("config", "show", "--driver-root", f"/{HOSTILE}"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_names_of_hostile_files_do_not_reach_the_terminal(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    path = hostile_spec(tmp_path)
    words = {"FILE": str(path), "DIRECTORY": str(tmp_path)}
    result = cdi_gen(*(words.get(word, word) for word in arguments))
    text = result.out + result.err
    assert "title" in text
    assert all(line.isprintable() for line in text.splitlines()), text
    assert not any(line.startswith("\u202e") for line in text.splitlines())


def test_the_difference_of_a_file_without_a_newline_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text("{\tx}")
    out = generate("--dry-run", "-o", str(path)).out
    assert "-{\tx}\n\\ No newline at end of file\n+{\n" in out


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_long_value_does_not_hide_the_message(tmp_path: Path, log_format: str) -> None:
    """A value of the command line, and a key of a hostile file."""
    path = tmp_path / "inventory.json"
    path.write_text(json.dumps({"formatVersion": 2, "\x1b" * 1_000_000: 1}))
    options = ("--log-format", log_format)
    for code, end, arguments in (
        (2, "not an absolute path", ("list", "--spec-dir", 100_000 * "x")),
        (1, "unknown field", ("list", "--inventory", str(path))),
    ):
        result = cdi_gen(*options, *arguments)
        assert result.code == code
        assert end in result.err
        assert len(result.err) < 30_000
        assert "\x1b" not in result.err


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_and_goes_to_standard_output(name: str) -> None:
    assert _help(name).startswith("Usage: cdi-gen")
    assert max(map(len, _help(name).splitlines())) <= 100
    wide = cdi_gen(*name.split(), "--help", env={"COLUMNS": "300"})
    assert wide.code == 0
    assert max(map(len, wide.out.splitlines())) <= 100


def _commands(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    """It and its subcommands, by the words that call them."""
    found = [(name, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            subcommand = command.get_command(context, each)
            assert subcommand is not None
            found += _commands(subcommand, f"{name} {each}".strip())
    return found


@pytest.mark.parametrize(
    ("name", "option"),
    [
        pytest.param(name, option, id=f"{name} {option.opts[0]}")
        for name, command in _commands(main, "")
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ],
)
def test_help_explains_every_option_and_names_its_default(name: str, option: click.Option) -> None:
    assert option.help
    help_text = "".join(_help(name).split())
    assert all(each in help_text for each in option.opts)
    if not option.is_flag:
        shown = option.get_help_record(click.Context(main))
        assert shown is not None
        record = "".join(shown[1].split())
        assert "[default:" in record or "[required]" in record
        assert record in help_text


def test_without_a_command_the_help_is_talk() -> None:
    for arguments in ([], ["hook"], ["cdi"]):
        found = cdi_gen(*arguments)
        assert (found.code, found.out) == (2, "")
        assert "Usage: cdi-gen" in found.err


def test_the_version() -> None:
    import cdi_gen as package

    assert cdi_gen("--version") == Result(0, f"cdi-gen {package.__version__}\n", "")


def _told_in_readme() -> list[str]:
    return [
        line.removeprefix("sudo ").partition("#")[0].strip()
        for line in re.findall(r"^    (.*cdi-gen.*)$|`(cdi-gen [^`]*)`", README, re.MULTILINE)
        for line in line
        if "cdi-gen " in line and not re.search(r"\b(systemctl|helm)\b", line)
    ]


EXAMINING = {
    "doctor": ("--host-root", "ROOT"),
    "why": ("--host-root", "ROOT", "--engine", "docker@28.3.0"),
    "compat": (),
}
"""Commands that examine a host or a fleet, and what they need on a machine without engines."""


def _prepare_fleet(directory: Path) -> None:
    """Make a fleet of one host, and a list of one image: a directory without files."""
    (directory / "inventories").mkdir()
    shutil.copy(INVENTORY, directory / "inventories/host.json")
    (directory / "rootfs").mkdir()
    (directory / "images").write_text(f"{directory}/rootfs\n")


FLEET = "cdi-gen compat --inventories DIR --images LIST -o fleet.html"


def test_the_readme_has_the_table_of_a_fleet(tmp_path: Path) -> None:
    assert FLEET in _told_in_readme()
    (tmp_path / "DIR").mkdir()
    (tmp_path / "DIR/host.json").write_text(Path(INVENTORY).read_text())
    (tmp_path / "LIST").write_text("cuda:12.4\n")
    words = [
        str(tmp_path / word) if word in {"DIR", "LIST"} else word for word in FLEET.split()[1:]
    ]
    assert cdi_gen(*words[:-1], str(tmp_path / words[-1])).code == 0
    assert (tmp_path / "fleet.html").exists()


@pytest.mark.parametrize("line", dict.fromkeys(line for line in _told_in_readme() if line != FLEET))
def test_what_the_readme_tells_to_type_is_understood(line: str, tmp_path: Path) -> None:
    """Everything is parsed and done, on an inventory instead of this host."""
    (tmp_path / "nvidia.json").write_text(SPEC)
    line = line.replace("/etc/cdi/*.json", "/etc/cdi/nvidia.json").replace(
        "/etc/cdi", str(tmp_path)
    )
    words = line.partition(">")[0].split()[1:]
    words = [INVENTORY if word == "host.json" else word for word in words]
    if words[0] == "inventory":
        words[words.index("-o") + 1 :] = [str(tmp_path / "host.json"), "--host-root", str(tmp_path)]
        assert cdi_gen(*words).code == 3
        return
    if words[0] == "hook":
        if words[1] == "install":
            words += ["--root", str(tmp_path)]
        else:
            (tmp_path / "rootfs").mkdir()
            words = [str(tmp_path / word) if word == "rootfs" else word for word in words]
            words += ["--spec-dir", str(tmp_path)]
        assert cdi_gen(*words).code == 0
        return
    if words[0] in EXAMINING:
        words[1:1] = EXAMINING[words[0]]
        _prepare_fleet(tmp_path)
        names = {"ROOT": tmp_path, "DIR": tmp_path / "inventories", "LIST": tmp_path / "images"}
        words = [str(names.get(word, word)) for word in words]
        code = cdi_gen(*words, cwd=tmp_path).code
        assert code in {0, 1, 4}  # whatever this machine has
        return
    if words[0] in {"refresh", "check"}:
        words += ["--spec-dir", str(tmp_path / "none")] if words[0] == "check" else []
        failure(cdi_gen(*words, "--host-root", str(tmp_path)), ExitCode.NO_DRIVER)
        return
    if words[0] == "diff":
        assert cdi_gen(*words, INVENTORY, INVENTORY) == Result(0, "", "")
        return
    if words[0] == "kubernetes":
        pytest.importorskip("grpc")
        options = ("--fail-on-init-error", "--host-root", str(tmp_path))
        failure(cdi_gen(*words, *options), ExitCode.NO_DRIVER)
        return
    if words[0] == "engine":
        # Whatever this machine has: 5 says that something would be written; nothing is.
        dry = [] if "--dry-run" in words or words[1] == "list" else ["--dry-run"]
        assert cdi_gen(*words, *dry).code in {0, 5}
        return
    if words[0] == "inject":
        (tmp_path / "config.json").write_text('{"ociVersion": "1.0.2"}')
        words = [str(tmp_path) if word == "BUNDLE" else word for word in words]
    # The second inventory has all that goes with GPUs.
    inventory = str(GOLDEN / "hgx-550-8gpu/inventory.json") if "--mode" in words else INVENTORY
    if words[0] in {"show", "inject"}:
        words += ["--spec-dir", str(tmp_path)]
    elif words[0] not in {"validate", "explain"} and "--inventory" not in words:
        words += ["--inventory", inventory]
    found = cdi_gen(*words)
    assert found.code == 0, found


def test_the_options_in_the_readme_exist() -> None:
    known = {
        name for _, command in _commands(main, "") for each in command.params for name in each.opts
    }
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    others = {"--rm", "--gpus", "--now", "--create-namespace", "--set", "--for", "--timeout"}
    assert used - known <= others
    assert len(used & known) >= 8
