# SPDX-License-Identifier: Apache-2.0
"""A bundle's config.json: what is accepted, and that the file is always the old or the new one."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_base.errors import HookError
from cdi_runtime import bundle
from cdi_runtime.bundle import Bundle

ODD = """{"z": 1, "a": [1.5, -0.0, 1e300, 123456789012345678901234567890, true, null, ""],
 "text": "\\ud800 \\u0000 \\"\\\\ é 😀 <&>", "process": {"x-unknown": {"b": {}, "a": []}}}"""


def opened(folder: Path, content: bytes | str) -> Bundle:
    data = content.encode() if isinstance(content, str) else content
    (folder / "config.json").write_bytes(data)
    return Bundle(str(folder))


def content_of(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_bytes())


def test_unknown_fields_are_kept(tmp_path: Path) -> None:
    opened_bundle = opened(tmp_path, ODD)
    opened_bundle.config["added"] = 1
    opened_bundle.replace()
    assert content_of(tmp_path) == json.loads(ODD) | {"added": 1}
    assert [*content_of(tmp_path)] == ["z", "a", "text", "process", "added"]
    # -0.0 == 0.0: looked at as text.
    assert b"-0.0" in (tmp_path / "config.json").read_bytes()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(config=st.dictionaries(st.text(), JSON))
def test_content_is_written_back(
    config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bundle")
    opened(folder, json.dumps(config)).replace()
    text = (folder / "config.json").read_bytes()
    assert text.isascii()
    assert json.loads(text) == config
    assert json.dumps(json.loads(text)) == json.dumps(config)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o666])
def test_owner_and_mode_are_kept(tmp_path: Path, mode: int) -> None:
    opened_bundle = opened(tmp_path, "{}")
    file = tmp_path / "config.json"
    file.chmod(mode)
    if os.geteuid() == 0:
        os.chown(file, 0, 4242)
    group = file.stat().st_gid
    opened_bundle = Bundle(str(tmp_path))
    opened_bundle.config["added"] = 1
    old = os.umask(0o077)
    try:
        opened_bundle.replace()
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.stat().st_gid == group
    assert [*tmp_path.iterdir()] == [file]


def test_large_unknown_field_is_kept(tmp_path: Path) -> None:
    config = {"annotations": {f"key-{n}": "value " * 20 for n in range(8000)}}
    opened_bundle = opened(tmp_path, json.dumps(config))
    assert (tmp_path / "config.json").stat().st_size > 1 << 20
    opened_bundle.replace()
    assert content_of(tmp_path) == config


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff{}", b"{}{}", b"null",
        b"[" * 100_000, '{"a": 1}'.encode("utf-16"), b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda content: content[:12].decode("latin-1"),
)  # fmt: skip
def test_invalid_json_is_rejected(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(HookError) as raised:
        opened(tmp_path, content)
    assert "config.json" in str(raised.value)
    assert (tmp_path / "config.json").read_bytes() == content


def test_number_that_json_does_not_have_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="1e999"):
        opened(tmp_path, '{"a": 1e999}')
    opened_bundle = opened(tmp_path, '{"a": 1}')
    opened_bundle.config["a"] = float("inf")
    with pytest.raises(bundle.BundleError):
        opened_bundle.replace()
    assert (tmp_path / "config.json").read_text() == '{"a": 1}'
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize("path", ["/nowhere", "a\0b", "x" * 5000, "/dev/null", ""])
def test_invalid_bundle_path_is_rejected(path: str) -> None:
    with pytest.raises(bundle.BundleError):
        Bundle(path)


def test_bundle_behind_a_link_is_read(tmp_path: Path) -> None:
    """/var/run, below which engines have their bundles, is a link."""
    (tmp_path / "real").mkdir()
    opened(tmp_path / "real", "{}")
    (tmp_path / "link").symlink_to("real")
    assert Bundle(f"{tmp_path}/link").config == {}


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_bundle = opened(tmp_path, "{}")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(bundle.BundleError, match="No space left"):
        opened_bundle.replace()
    monkeypatch.undo()
    assert (tmp_path / "config.json").read_text() == "{}"
    assert len([*tmp_path.iterdir()]) == 1
