# SPDX-License-Identifier: Apache-2.0
"""Completion scripts complete, man pages render, and the Python in the documents is true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from cdi_gen import host, store
from cdi_gen.cli import COMMANDS, main
from cdi_gen.inventory import json_form
from tests.cli.program import CHECKOUT, ENVIRONMENT, ONE_GPU, PROGRAM, SPEC, cdi_gen

BLOCKS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")))
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    )
]


@pytest.fixture(scope="module")
def completing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a program called cdi-gen, and its completion script for bash."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "cdi-gen"
    program.write_text(f'#!/bin/sh\ncd {CHECKOUT} && exec {" ".join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    (folder / "script").write_text(cdi_gen("completion", "bash").out)
    return folder


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["gen"], {"generate"}),
        ([""], set(COMMANDS)),
        (["cdi", "li"], {"list"}),
        (["hook", ""], {"install", "run"}),
        (["generate", "--dev"], {"--dev-root", "--device", "--devices", "--device-id",
                                 "--device-ids", "--device-name-strategy"}),
        (["generate", "--hooks", ""], {"auto", "none"}),
        (["list", "-o", ""], {"table", "wide", "json", "yaml", "name"}),
        (["completion", "z"], {"zsh"}),
        (["nonsense", "x"], set()),
    ],
)  # fmt: skip
def test_bash_completes(completing: Path, words: list[str], wanted: set[str]) -> None:
    script = """
        source "$0/script"
        function=$(complete -p cdi-gen | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=(cdi-gen "$@") COMP_CWORD=$#
        $function cdi-gen
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = f"{completing}:{ENVIRONMENT['PATH']}"
    found = subprocess.run(
        ["bash", "--norc", "-c", script, str(completing), *words],
        env=ENVIRONMENT | {"PATH": path}, capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    assert set(found.stdout.split()) == wanted
    assert found.stderr == ""


@pytest.mark.parametrize("option", ["--textfile", "--web-config", "--fields", "--host-root"])
def test_the_shell_completes_paths(option: str) -> None:
    completion = ShellComplete(main, {}, "cdi-gen", "_CDI_GEN_COMPLETE")
    (item,) = completion.get_completions(["metrics", option], "/e")
    assert (item.type, item.value) == ("file", "/e")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_of_all_shells_are_sound(shell: str, tmp_path: Path) -> None:
    found = cdi_gen("completion", shell, env={"PATH": "/nonexistent"})
    assert (found.code, found.err) == (0, ""), "it starts no program"
    assert f"_CDI_GEN_COMPLETE={shell}_complete" in found.out
    if program := shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(found.out)
        subprocess.run([program, "-n", str(path)], check=True)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The man pages, by name."""
    folder = tmp_path_factory.mktemp("man")
    subprocess.run(
        [sys.executable, CHECKOUT / "tools/man.py", folder], check=True, cwd=CHECKOUT, timeout=20
    )
    return {path.stem: path for path in folder.iterdir()}


def _command(page: str) -> tuple[click.Command, click.Context]:
    command: click.Command = main
    context = click.Context(main, **main.context_settings)
    rest = page.removeprefix("cdi-gen").removeprefix("-")
    while rest:
        assert isinstance(command, click.Group)
        # The name of a command may have hyphens itself.
        names = [
            name for name in command.list_commands(context) if f"{rest}-".startswith(f"{name}-")
        ]
        word = max(names, key=len)
        rest = rest.removeprefix(word).removeprefix("-")
        found = command.get_command(context, word)
        assert found is not None
        command, context = found, click.Context(found, parent=context)
    return command, context


def test_there_is_a_page_for_each_command(pages: dict[str, Path]) -> None:
    parts = {
        "hook": ("install", "run"),
        "engine": ("list", "configure", "unconfigure"),
        "runtime": ("prepare",),
        "config": ("show",),
        "system": ("create-device-nodes", "create-dev-char-symlinks", "wait-driver"),
        "kubernetes": (
            *("device-plugin", "labels", "mps-control-daemon", "nri", "setup-node", "toolkit"),
        ),
    }
    assert set(pages) == (
        {"cdi-gen"}
        | {f"cdi-gen-{name}" for name in COMMANDS}
        | {f"cdi-gen-{group}-{name}" for group, names in parts.items() for name in names}
    )


def test_pages_render_without_a_warning_and_name_every_option(pages: dict[str, Path]) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("needs groff")
    for name, path in pages.items():
        rendered = subprocess.run(
            [groff, "-man", "-Tutf8", "-K", "utf8", "-wall", "-rLL=100n", "-P-cbou", str(path)],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
        assert rendered.stderr == "", name
        text = rendered.stdout
        command, context = _command(name)
        for parameter in command.get_params(context):
            if isinstance(parameter, click.Option) and parameter.get_help_record(context):
                assert all(each in text for each in parameter.opts), (name, parameter.opts)
        for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS"):
            assert f"\n{heading}\n" in text, name
        assert "130 interrupted" in " ".join(text.split())


def test_pages_of_groups_name_their_commands(pages: dict[str, Path]) -> None:
    text = pages["cdi-gen"].read_text()
    assert all(f"cdi\\-gen\\-{name} (1)" in text for name in COMMANDS)
    assert "cdi\\-gen\\-hook\\-install (1)" in pages["cdi-gen-hook"].read_text()


@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_in_the_documents_runs(
    block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is, but on a bundled host and on spec files of our own."""
    inventory = json_form.load((ONE_GPU / "inventory.json").read_text())
    (tmp_path / "nvidia.yaml").write_text(SPEC)
    monkeypatch.setattr(host, "gather", lambda: inventory)
    monkeypatch.setattr(store.read, "__defaults__", ([str(tmp_path)],))
    exec(compile(block.replace("/etc/cdi", str(tmp_path)), "document", "exec"), {})
    told = capsys.readouterr()
    assert "cannot resolve" not in told.out
    assert told.err == ""


def test_the_python_in_the_documents_has_the_types_it_claims(tmp_path: Path) -> None:
    for number, block in enumerate(BLOCKS):
        (tmp_path / f"block{number}.py").write_text(str(block.values[0]))
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(CHECKOUT / "pyproject.toml"),
         "--cache-dir", str(CHECKOUT / ".mypy_cache"),
         *map(str, tmp_path.glob("*.py"))],
        env=ENVIRONMENT | {"MYPYPATH": os.pathsep.join(
            str(CHECKOUT / each) for each in (".", "hooks", "specs"))},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
