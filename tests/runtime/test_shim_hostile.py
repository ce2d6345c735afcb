# SPDX-License-Identifier: Apache-2.0
"""Hostile images and bundles: the shim reports an error, and no container is created."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.runtime.machine import SPEC, Bundle, Ended, Machine

NET: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "acme.com/net",
    "devices": [{"name": "all", "containerEdits": {"env": ["STOLEN=1"]}}],
}


@pytest.fixture
def start(plain: Machine, bundle: Bundle) -> Callable[..., Ended]:
    """Have a container made, by a runtime that would note it."""
    plain.defines(NET, "net.json")
    bundle.asks()

    def started(*words: str, **how: Any) -> Ended:
        words = words or ("--bundle", str(bundle.path))
        begun = time.monotonic()
        ended = plain.run(str(plain.shim), "create", *words, "x", **how)
        assert time.monotonic() - begun < 20
        assert "Traceback" not in ended.stderr
        assert len(ended.stderr) < 8192
        return ended

    return started


def refused(ended: Ended, plain: Machine) -> str:
    assert ended.returncode == 1, ended
    assert not (plain.folder / "runc.calls").exists()
    assert ended.stderr.startswith("cdi-gen-runtime: ")
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.isascii()
    assert ended.stderr[:-1].isprintable()
    return ended.stderr


VALUES = {
    "another vendor": "acme.com/net=all",
    "another vendor among ours": "0,acme.com/net=all",
    "another vendor's management": "management.nvidia.com/gpu=all",
    "long": "0," * 600_000,
    "many": ",".join(map(str, range(20_000))),
    "newline": "0\nlevel=info msg=fine",
    "terminal": "\x1b[2J0",
    "path": "../../../dev/sda",
    "quotes": '0","level":"info',
    "percent": "%s%n",
    "surrogate": "\ud800",
    "right to left": "\u202e0",
    "two": "0,all,1,void;",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_forbidden_request_of_an_image_is_rejected(
    start: Callable[..., Ended], plain: Machine, bundle: Bundle, value: str
) -> None:
    log = bundle.path / "log.json"
    bundle.asks(f"NVIDIA_VISIBLE_DEVICES={value}")
    content = bundle.file.read_bytes()
    refused(start("--bundle", str(bundle.path)), plain)
    words = ("--log", str(log), "--log-format", "json")
    ended = plain.run(str(plain.shim), *words, "create", "--bundle", str(bundle.path), "x")
    refused(ended, plain)
    # What an engine reads there is one object, and its text is ours.
    assert json.loads(log.read_text())["msg"] in ended.stderr
    assert bundle.file.read_bytes() == content


@pytest.mark.parametrize("value", ["all", "0", "none", "void", "", "0,1", "nvidia.com/gpu=0"])
def test_unprivileged_container_gets_nothing(
    start: Callable[..., Ended], plain: Machine, bundle: Bundle, value: str
) -> None:
    """A31 of the attack suite, on a host that accepts variables of privileged containers only."""
    key = "accept-nvidia-visible-devices-envvar-when-unprivileged = false"
    plain.configure(key, runtime=f'runtimes = ["{plain.folder}/runc"]')
    bundle.asks(f"NVIDIA_VISIBLE_DEVICES={value}")
    content = bundle.file.read_bytes()
    assert start().returncode == 0
    assert bundle.file.read_bytes() == content
    bundle.config["process"]["capabilities"] = {"bounding": ["CAP_SYS_ADMIN"]}
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    assert start().returncode == 0
    assert bundle.environment()["GPU"] == "0"


@pytest.mark.parametrize("kind", ["fifo", "link", "owner"])
def test_config_json_that_is_not_a_trusted_file_is_rejected(
    start: Callable[..., Ended], plain: Machine, bundle: Bundle, kind: str
) -> None:
    file = bundle.file
    if kind == "owner":
        os.chown(file, 1000, 1000)
    else:
        file.rename(bundle.path / "other")
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "link":
        file.symlink_to("other")
    assert "config.json" in refused(start(), plain)


@pytest.mark.parametrize(
    "path", ["/nowhere", "/dev/null", "/proc/self/fd/0", "x" * 5000, "\udcff", "/", "a\nb"]
)
def test_invalid_bundle_path_is_rejected(
    start: Callable[..., Ended], plain: Machine, path: str
) -> None:
    refused(start("--bundle", path), plain)


BOMBS = {
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "large": b'{"a": "' + b"x" * (17 << 20) + b'"}',
    "number": b'{"a": ' + b"9" * 100_000 + b"}",
    "twice": b'{"process": {}, "process": {"env": []}}',
    "NaN": b'{"a": NaN}',
    "list": b"[]",
    "empty": b"",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "not UTF-8": b'{"a": "\xff"}',
    "env": b'{"process": {"env": [1]}}',
    "process": b'{"process": []}',
    "mounts": b'{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]}, "hooks": {"prestart": 1}, "mounts": 7}',
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_invalid_config_json_is_rejected(
    start: Callable[..., Ended], plain: Machine, bundle: Bundle, content: bytes
) -> None:
    plain.defines(
        {**SPEC, "containerEdits": {"mounts": [{"hostPath": "/a", "containerPath": "/a"}]}}
    )
    bundle.file.write_bytes(content)
    refused(start(), plain)
    assert bundle.file.read_bytes() == content


def test_large_unknown_field_is_kept(
    start: Callable[..., Ended], plain: Machine, bundle: Bundle
) -> None:
    bundle.config["x-unknown"] = [{"key": "value " * 10, "n": n, "f": n / 7} for n in range(12_000)]
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    assert bundle.file.stat().st_size > 1 << 20
    assert start().returncode == 0
    edited = bundle.edited()
    assert edited["x-unknown"] == bundle.config["x-unknown"]
    assert "GPU=0" in edited["process"]["env"]


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_log_that_is_not_a_regular_file_is_not_written(
    plain: Machine, bundle: Bundle, kind: str
) -> None:
    """The shim does not follow the link or wait for the pipe, and the container starts without a log."""
    victim = plain.folder / "victim"
    victim.write_text("untouched")
    log = plain.folder / "log"
    if kind == "link":
        log.symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(log)
    else:
        log.mkdir()
    plain.configure(runtime=f'runtimes = ["{plain.folder}/runc"]', log=log)
    words = (str(plain.shim), "--log", str(log), "create", "--bundle", str(bundle.path), "x")
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    assert plain.run(*words).returncode == 0
    assert bundle.environment()["GPU"] == "0"
    bundle.asks("NVIDIA_VISIBLE_DEVICES=7")
    assert plain.run(*words).returncode == 1
    assert victim.read_text() == "untouched"


def test_config_toml_that_others_can_change_is_rejected(plain: Machine, bundle: Bundle) -> None:
    plain.settings.chmod(0o666)
    ended = plain.run(str(plain.shim), "create", "--bundle", str(bundle.path), "x")
    assert "only root may be able to change it" in refused(ended, plain)


def test_internal_error_is_one_line(
    start: Callable[..., Ended], plain: Machine, bundle: Bundle
) -> None:
    with (plain.installed / "cdi_base/cdi/injection.py").open("a") as file:
        file.write("\n\ndef apply(*_):\n    raise ValueError('a\\nb')\n")
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    content = bundle.file.read_bytes()
    assert "internal error, please report it: ValueError" in refused(start(), plain)
    assert bundle.file.read_bytes() == content
