# SPDX-License-Identifier: Apache-2.0
"""What `cdi_base.strict_json` refuses, and that each reader of JSON refuses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_base import oci_config, strict_json
from cdi_base.cdi import spec_directories
from cdi_base.errors import HookError
from cdi_gen.cdi import wire
from cdi_gen.cdi.problem import SpecError
from cdi_gen.cli import inject
from cdi_gen.engines.change import record
from cdi_gen.engines.text import json_parser
from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import json_form

HOOKS = Path(strict_json.__file__).parents[1]

REFUSED = {
    "a key twice": b'{"a": {"b": 1, "b": 2}}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": [-Infinity]}',
    "too large a number": b'{"a": 1e999}',
    "too small a number": b'{"a": -1e999}',
    "too long a number": b'{"a": ' + b"9" * 401 + b"}",
    "too deep": b"[" * 200_000,
    "too deep objects": b'{"a":' * 200_000,
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "not UTF-8": b'{"a": "\xff"}',
    "a control character": b'{"a": "\n"}',
    "two values": b"{} {}",
    "cut off": b'{"a": ',
    "empty": b"",
    "a comment": b"{} // x",
    "a comma too many": b'{"a": 1,}',
}
ERRORS = (strict_json.JSONError, HookError, CdiGenError, SpecError, record.RecordError)


def of_a_spec_directory(content: bytes) -> object:
    document = spec_directories.json_document(content)
    if document is None:
        raise HookError("only the library can tell")
    return document


READERS: dict[str, Callable[[bytes], object]] = {
    "parse": strict_json.parse,
    "parse_object": lambda content: strict_json.parse_object(content, "it"),
    "config.json": lambda content: oci_config.parse(content, "it"),
    "a spec of the shim": of_a_spec_directory,
    "a record": record.read,
    "an engine's file": lambda content: json_parser.value(content.decode()),
    "an inventory": lambda content: json_form.load(content.decode()),
}


# The reader of an engine's file keeps the digits of a number as they are written.
@pytest.mark.parametrize(
    ("reader", "name"),
    [
        (reader, name)
        for reader in READERS
        for name in REFUSED
        if reader != "an engine's file" or "number" not in name
    ],
)
def test_what_readers_of_json_do_not_agree_on_is_refused(reader: str, name: str) -> None:
    with pytest.raises((*ERRORS, UnicodeDecodeError)):
        READERS[reader](REFUSED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_inject_refuses_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_bytes(REFUSED[name])
    with pytest.raises(CdiGenError, match="is not JSON"):
        inject._read(str(tmp_path / "config.json"))


def test_the_duplicate_of_very_many_keys_is_found_in_one_pass() -> None:
    """With a search for each key this takes hours."""
    keys = ",".join(f'"{number}":0' for number in range(500_000))
    with pytest.raises(strict_json.DuplicateKeyError, match="duplicate key '499999'"):
        strict_json.parse(f'{{{keys},"499999":0}}')


def test_an_inventory_with_a_key_twice_names_it() -> None:
    text = '{"formatVersion": 1, "formatVersion": 1}'
    with pytest.raises(json_form.InventoryError, match="duplicate key 'formatVersion'"):
        json_form.load(text)


def test_a_spec_with_a_key_that_only_yaml_readers_can_judge() -> None:
    """go-yaml takes keys of up to 1,024 characters."""
    document = {"cdiVersion": "0.5.0", "kind": "a.b/c", "devices": [], "x" * 1100: 1}
    assert spec_directories.json_document(json.dumps(document).encode()) is None
    with pytest.raises(SpecError):
        wire.load(json.dumps(document))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            ' \n{"a": [1, -2.5, 1e3, true, null, "\\u00e9"]}\t',
            {"a": [1, -2.5, 1e3, True, None, "é"]},
        ),
        (f"[{2**70}]", [2**70]),
        ("9" * 400, int("9" * 400)),
        ('"x"', "x"),
        ("[]", []),
    ],
)
def test_what_it_reads(text: str, value: object) -> None:
    assert strict_json.parse(text) == value
    assert strict_json.parse(b"\xef\xbb\xbf" + text.encode()) == value


def test_a_byte_order_mark_in_a_text_is_a_character() -> None:
    with pytest.raises(strict_json.JSONError):
        strict_json.parse("\ufeff{}")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": 1\n "b": 2}', "line 2, column 2"),
        ("\n\n  x", "line 3, column 3"),
        ("{}\n  {}", "line 2, column 3"),
        ("", "line 1, column 1"),
    ],
)
def test_an_error_names_the_place(text: str, place: str) -> None:
    with pytest.raises(strict_json.JSONError) as caught:
        strict_json.parse(text)
    assert caught.value.place == place
    assert str(caught.value) == f"{caught.value.message} ({place})"


def test_a_text_that_holds_no_object_is_an_error_with_its_name() -> None:
    assert strict_json.parse_object(b'{"a": 1}', "the state") == {"a": 1}
    for content, words in (
        (b"[]", "the state is not one JSON object"),
        (b"{", "the state is not JSON: "),
    ):
        with pytest.raises(HookError, match=words) as caught:
            strict_json.parse_object(content, "the state")
        assert caught.value.code == "CDG-K004"


def test_without_the_json_package_it_refuses_the_same() -> None:
    """As the hooks run: `json` is not loaded, and the scanner has no error of its own."""
    program = (
        f"import sys; sys.path.insert(0, {str(HOOKS)!r})\n"
        "from cdi_base import strict_json\n"
        "assert 'json' not in sys.modules\n"
        "sys.path[:] = []\n"
        f"for content in {[*REFUSED.values()]!r}:\n"
        "    try: strict_json.parse(content)\n"
        "    except strict_json.JSONError as error: assert str(error)\n"
        "    else: raise SystemExit(repr(content[:50]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-IS", "-"],
        input=program,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert ended.returncode == 0, ended.stderr


def test_what_it_writes_is_what_it_reads() -> None:
    value = {"a": [1, 2.5, None, "é\u2028"], "b": {}}
    assert strict_json.parse(strict_json.encode(value)) == value
    assert strict_json.encode(value).isascii()
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON compliant"):
            strict_json.encode([number])
