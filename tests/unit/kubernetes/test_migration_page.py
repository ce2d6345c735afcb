# SPDX-License-Identifier: Apache-2.0
"""The table of docs/kubernetes-migration.md has every key, flag and variable of the device plugin."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from cdi_gen.cli.kubernetes import COMMANDS, command
from cdi_gen.cli.kubernetes_device_plugin import device_plugin
from cdi_gen.kubernetes.settings.config_file import parse_config_file

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs/kubernetes-migration.md").read_text()
SOURCE = (REPOSITORY / "cdi_gen/kubernetes/settings/config_file.py").read_text()
SPANS = set(re.findall(r"`([^`]+)`", PAGE))
OPTIONS = [option for option in device_plugin.params if isinstance(option, click.Option)]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: str(option.name))
def test_every_flag_and_variable_is_in_the_table(option: click.Option) -> None:
    assert set(option.opts) <= SPANS
    variables = [option.envvar] if isinstance(option.envvar, str) else [*(option.envvar or ())]
    assert set(variables) <= SPANS


def test_no_flag_is_in_the_table_that_does_not_exist() -> None:
    flags = {flag for option in OPTIONS for flag in option.opts}
    named = {span for span in SPANS if re.fullmatch(r"--[a-z-]+", span)}
    assert named <= flags
    for group, name in re.findall(r"cdi-gen (kubernetes) ([a-z-]+)`", PAGE):
        assert group == command.name
        assert name in COMMANDS


def test_every_key_of_the_config_file_is_in_the_table() -> None:
    reads = r"\.(?:boolean|integers?|table|tables|texts?|value|word)\(\s*\"(\w+)\""
    keys = set(re.findall(reads, SOURCE))
    assert len(keys) > 30
    named = set(re.findall(r"\w+", " ".join(SPANS)))
    assert keys <= named, keys - named


def test_every_key_of_the_table_is_read() -> None:
    """A file with all keys gives no warning of an unknown one."""
    keys = [span for span in SPANS if re.fullmatch(r"(flags|imex)\.[A-Za-z.]+", span)]
    assert len(keys) > 20
    tree: dict[str, dict[str, object]] = {}
    for key in keys:
        table: dict[str, object] = tree  # type: ignore[assignment]
        *tables, name = key.split(".")
        for word in tables:
            table = table.setdefault(word, {})  # type: ignore[assignment]
        table[name] = None

    content = parse_config_file(json.dumps({"version": "v1", **tree}).encode(), "config.yaml")
    assert content.findings == ()
