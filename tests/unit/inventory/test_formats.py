# SPDX-License-Identifier: Apache-2.0
"""The formats of the inventory: the current one is written, every one is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdi_gen.cdi import wire
from cdi_gen.generate import generate
from cdi_gen.inventory import json_form
from tests.host.looking import REPOSITORY

GOLDEN = REPOSITORY / "specs/golden"
REAL_HOSTS = ("h200-580-1gpu", "h200-580-4gpu")


def document_of(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / name / "inventory.json").read_text("utf-8"))
    return document


@pytest.mark.parametrize("name", REAL_HOSTS)
def test_format_1_of_a_real_host_gives_the_same_spec(name: str) -> None:
    document = document_of(name)
    assert document["formatVersion"] == 1
    inventory = json_form.load(json.dumps(document))
    expected = (GOLDEN / name / "nvidia.json").read_text(encoding="utf-8")
    assert wire.dump(generate(inventory)) == expected
    rewritten = json_form.dump(inventory)
    assert json.loads(rewritten)["formatVersion"] == 2
    assert wire.dump(generate(json_form.load(rewritten))) == expected


def test_format_1_keeps_every_fact() -> None:
    old = document_of("h200-580-4gpu")
    new = json.loads(json_form.dump(json_form.load(json.dumps(old))))
    assert new.pop("platform") == "dgpu"
    for gpu in new["gpus"]:
        (gpu["node"],) = gpu.pop("nodes")
    keys = {"staleNodes": "stale", "unusableDevices": "skipped", "ignored": "left"}
    for kind in ("missing", *keys):
        for item in new.get(kind, []):
            assert item.pop("code")
        if kind in keys and kind in new:
            new[keys[kind]] = new.pop(kind)
    assert new | {"formatVersion": 1} == old


def test_a_reason_of_format_1_gets_a_general_code() -> None:
    reasons = {
        "missing": [{"name": "a", "reason": "b"}],
        "stale": [{"path": "/a", "reason": "b"}],
        "skipped": [{"device": "a", "reason": "b"}],
        "left": [{"path": "/a", "reason": "b"}],
    }
    inventory = json_form.load(json.dumps(document_of("h200-580-1gpu") | reasons))
    assert [item.code for item in inventory.missing] == ["CDG-H201"]
    assert [item.code for item in inventory.stale_nodes] == ["CDG-H301"]
    assert [item.code for item in inventory.unusable_devices] == ["CDG-H105"]
    assert [item.code for item in inventory.ignored] == ["CDG-H403"]


@pytest.mark.parametrize("kind", ["missing", "staleNodes", "unusableDevices", "ignored"])
def test_a_reason_of_format_2_has_a_code(kind: str) -> None:
    key = {"missing": "name", "unusableDevices": "device"}.get(kind, "path")
    document = document_of("flat-550-1gpu") | {kind: [{key: "/a", "reason": "b"}]}
    with pytest.raises(json_form.InventoryError, match=rf"\.{kind}\[0\]\.code: missing"):
        json_form.load(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"platform": "dgpu"}, ".platform: unknown field"),
        ({"migConfig": None}, ".migConfig: unknown field"),
        ({"driver": None}, ".driver: expected an object"),
    ],
)
def test_format_1_has_no_key_of_a_later_format(change: dict[str, Any], message: str) -> None:
    with pytest.raises(json_form.InventoryError, match=message):
        json_form.load(json.dumps(document_of("h200-580-1gpu") | change))


@pytest.mark.parametrize("key", ["minor", "pciAddress", "node"])
def test_a_gpu_of_format_1_has_a_minor_an_address_and_a_node(key: str) -> None:
    document = document_of("h200-580-1gpu")
    del document["gpus"][0][key]
    with pytest.raises(json_form.InventoryError, match=rf"^\.gpus\[0\]\.{key}: missing$"):
        json_form.load(json.dumps(document))


def test_format_2_has_no_key_of_format_1() -> None:
    document = document_of("flat-550-1gpu")
    (document["gpus"][0]["node"],) = document["gpus"][0].pop("nodes")
    with pytest.raises(json_form.InventoryError, match=r"\.gpus\[0\]\.node: unknown field"):
        json_form.load(json.dumps(document))


def test_format_2_must_name_the_platform() -> None:
    document = document_of("flat-550-1gpu")
    del document["platform"]
    with pytest.raises(json_form.InventoryError, match=r"\.platform: missing"):
        json_form.load(json.dumps(document))


@pytest.mark.parametrize("version", [3, 10**9])
def test_a_newer_format_is_rejected(version: int) -> None:
    document = document_of("flat-550-1gpu") | {"formatVersion": version}
    with pytest.raises(json_form.InventoryError, match="this cdi-gen reads up to 2") as caught:
        json_form.load(json.dumps(document))
    assert "newer cdi-gen" in str(caught.value.hint)


@pytest.mark.parametrize("version", [0, -1, "2", 2.0, None, True])
def test_what_is_no_format_version_is_rejected(version: object) -> None:
    document = document_of("flat-550-1gpu") | {"formatVersion": version}
    with pytest.raises(json_form.InventoryError, match=r"\.formatVersion: not a version number"):
        json_form.load(json.dumps(document))
