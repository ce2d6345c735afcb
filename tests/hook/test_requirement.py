# SPDX-License-Identifier: Apache-2.0
"""NVIDIA_REQUIRE_*: every form of an expression, the strings of real images, and the messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdi_base.errors import HookError
from cdi_base.requirement import (
    Facts,
    GpuFacts,
    UnsatisfiedError,
    check,
    from_environment,
    parse,
    version,
)
from tests.lab.cuda import REQUIREMENTS, expression_of

H100 = GpuFacts("9.0", "nvidia", "GPU 0", index=0, minor=0)
T4 = GpuFacts("7.5", "tesla", "GPU 1", index=1, minor=1)
HOST = Facts("12.4", "550.54.15", [H100])
OLD = Facts("12.0", "525.60.13", [H100])


def holds(expression: str, facts: Facts = HOST) -> bool:
    try:
        assert check((("NVIDIA_REQUIRE_CUDA", expression),), facts) == ()
    except UnsatisfiedError:
        return False
    return True


def reason(expression: str, facts: Facts = HOST) -> str:
    with pytest.raises(UnsatisfiedError) as caught:
        check((("NVIDIA_REQUIRE_CUDA", expression),), facts)
    text = str(caught.value)
    assert text.isprintable()
    return text


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # Each operator on each side of the host's value, 12.4.
        ("cuda=12.4", True), ("cuda=12.3", False),
        ("cuda!=12.3", True), ("cuda!=12.5", True), ("cuda!=12.4", False),
        ("cuda<12.5", True), ("cuda<12.4", False), ("cuda<12.3", False),
        ("cuda<=12.5", True), ("cuda<=12.4", True), ("cuda<=12.3", False),
        ("cuda>12.3", True), ("cuda>12.4", False), ("cuda>12.5", False),
        ("cuda>=12.3", True), ("cuda>=12.4", True), ("cuda>=12.5", False),
        # Numbers are compared as numbers, at any length; trailing zeros do not count.
        ("cuda<12.10", True), ("cuda>=12.10", False), ("cuda>=9.2", True), ("cuda<100", True),
        ("cuda=12.4.0", True), ("cuda>=12.4.0.0", True), ("cuda>12.4.0", False), ("cuda=12.04", True),
        ("cuda<12.4.1", True), ("cuda>=12.4.1", False), ("cuda>12", True), ("cuda=12", False),
        ("cuda>=12.", True), ("cuda>=12..3", True),
        ("driver>=550", True), ("driver<551", True), ("driver=550.54.15", True), ("driver=550.54", False),
        ("driver>550.54.15", False), ("driver>=550.54.16", False), ("driver>550.54.9", True),
        # GPUs.
        ("arch>=9", True), ("arch=9.0", True), ("arch=9", True), ("arch>9.0", False), ("arch<10.0", True),
        ("arch>=7.5", True), ("arch>=12.0", False),
        ("brand=nvidia", True), ("brand=NVIDIA", True), ("brand=tesla", False), ("brand!=tesla", True),
        ("brand!=Nvidia", False), ("brand=unknown", False), ("brand=nvidiartx", False),
        # The names of properties have no case either.
        ("CUDA>=12", True), ("Driver>=999", False), ("BRAND=nvidia", True),
        # A comma is AND, a space OR, and the comma binds.
        ("cuda>=12,driver>=550", True), ("cuda>=12,driver>=560", False), ("cuda>=13,driver>=550", False),
        ("cuda>=13 driver>=550", True), ("driver>=550 cuda>=13", True), ("cuda>=13 driver>=560", False),
        ("cuda>=13,driver>=550 arch>=9", True), ("cuda>=13 arch>=9,brand=tesla", False),
        ("arch>=9,brand=nvidia,driver>=550,driver<551,cuda!=12.3", True),
        # Nothing is required.
        ("", True), (" ", True), ("   ", True), (",", True), (", ,,", True),
        # Empty alternatives and conditions are none; they do not hold in the place of others.
        ("  cuda>=12  ", True), (" cuda>=13 ", False), ("cuda>=13,", False), (",cuda>=13,,", False),
        ("cuda>=13 ,", False), (",cuda>=12,,driver>=550,", True),
        # A condition that cannot be parsed does not hold; another alternative may hold.
        ("cuda", False), ("cuda>=", False), (">=12", False), ("=", False), ("12.4", False), ("...", False),
        ("cuda==12.4", False), ("cuda=>12", False), ("cuda<>12", False), ("cuda!12", False), ("cuda=!12", False),
        ("cuda>=12.x", False), ("cuda>=v12", False), ("cuda>=-1", False), ("cuda>=.5", False), ("cuda>=.", False),
        ("cuda>=1e1", False), ("cuda>=\u0661", False), ("cuda>=12\t", False), ("cuda>= 12", False), ("cuda >=12", False),
        ("driver>=550;cuda>=12", False), ("arch=9.0a", False),
        ("brand<tesla", False), ("brand>=nvidia", False), ("brand=", False), ("brand!=", False),
        ("driver<99999999999999999999", False), ("driver<9999999999999999999", True),
        ("cuda>=12 what", True), ("what cuda>=12", True), ("cuda>=12,what", False), ("what,cuda>=12", False),
        # A condition with an unknown property does not hold, whatever the operator is.
        ("memory>=80", False), ("memory!=80", False), ("cuda>=12 memory>=80", True), ("cudax>=12", False),
    ],
)  # fmt: skip
def test_an_expression(expression: str, expected: bool) -> None:
    assert holds(expression) is expected


IMAGES = json.loads(REQUIREMENTS.read_text())


@pytest.mark.parametrize("image", IMAGES["images"], ids=lambda image: image["image"][:40])
def test_a_real_image(image: dict[str, Any]) -> None:
    expression = expression_of(image)
    images = [
        name
        for name, document in IMAGES["hosts"].items()
        if holds(expression, Facts.from_document(document))
    ]
    assert images == image["holds_on"]
    for name in IMAGES["hosts"].keys() - set(images):
        host = IMAGES["hosts"][name]
        message = reason(expression, Facts.from_document(host))
        first = expression.split(" ")[0].split(",")[0]
        assert f"{first} (this host: {host['cuda']})" in message
        assert "update the driver" in message
        assert len(message) < 700


@pytest.mark.parametrize("image", IMAGES["images"], ids=lambda image: image["image"][:40])
def test_a_real_image_without_a_gpu(image: dict[str, Any]) -> None:
    """Without a GPU, conditions on GPUs hold, as in libnvidia-container."""
    branches = {"11.4": "470.256.02", "12.2": "535.183.06"}
    for cuda, driver in branches.items():
        document = {"cuda": cuda, "driver": driver}
        expression = expression_of(image)
        name = {"11.4": "tesla-470", "12.2": "h100-535"}[cuda]
        if name in image["holds_on"]:
            assert holds(expression, Facts.from_document(document))


def test_each_gpu_must_satisfy_the_expression() -> None:
    two_gpus = Facts("12.4", "550.54.15", [H100, T4])
    assert holds("brand=nvidia brand=tesla", two_gpus)
    assert holds("brand=nvidia,arch>=9 brand=tesla,arch>=7", two_gpus)
    assert not holds("brand=nvidia", two_gpus)
    assert not holds("brand=tesla", two_gpus)
    assert "arch>=8 (GPU 1: 7.5)" in reason("arch>=8", two_gpus)


def test_without_a_gpu_only_its_properties_hold() -> None:
    none = Facts("12.4", "550.54.15")
    assert holds("brand=tesla,arch>=99", none)
    assert holds("brand=tesla,driver>=550,driver<551", none)
    assert not holds("brand=tesla,driver>=560", none)
    # A condition with a fault does not hold without a GPU either.
    assert not holds("brand<tesla", none)
    assert not holds("arch>=x", none)


def test_every_variable_has_to_hold() -> None:
    good, bad = ("NVIDIA_REQUIRE_CUDA", "cuda>=12"), ("NVIDIA_REQUIRE_DRIVER", "driver>=560")
    assert check((good,), HOST) == ()
    for required in ((good, bad), (bad, good)):
        with pytest.raises(UnsatisfiedError, match="NVIDIA_REQUIRE_DRIVER is not satisfied"):
            check(required, HOST)
    assert check((), Facts()) == ()


@pytest.mark.parametrize(
    ("expression", "facts", "doubt"),
    [
        ("cuda>=13", Facts(None, "550"), "cuda>=13: this host's cuda is unknown"),
        ("driver>=560", Facts("12.4", None), "driver>=560: this host's driver is unknown"),
        ("driver>=560", Facts("12.4", "550-beta"), "driver>=560: this host's driver is unknown"),
        ("arch>=9", Facts("12", "550", [GpuFacts(None, "tesla", "GPU 0")]), "arch>=9: GPU 0's arch is unknown"),
        ("brand=tesla", Facts("12", "550", [GpuFacts("9.0", None, "GPU 0")]), "brand=tesla: GPU 0's brand is unknown"),
        # The message names the first unknown condition.
        ("driver>=560 cuda>=13 cuda>=14", Facts(None, "550"), "cuda>=13: this host's cuda is unknown"),
        ("cuda>=13,driver>=540", Facts(None, "550"), "cuda>=13: this host's cuda is unknown"),
        ("driver>=540,cuda>=13", Facts(None, "550"), "cuda>=13: this host's cuda is unknown"),
        ("cuda>=13,driver>=540", Facts(), "cuda>=13: this host's cuda is unknown"),
    ],
)  # fmt: skip
def test_an_unknown_fact_stops_no_container(expression: str, facts: Facts, doubt: str) -> None:
    assert check((("A", expression),), facts) == (f"A: not checked: {doubt}",)


def test_an_unknown_fact_is_not_reported_if_another_condition_decides() -> None:
    facts = Facts(None, "550")
    assert check((("A", "cuda>=13 driver>=540"),), facts) == ()
    assert check((("A", "driver>=540 cuda>=13"),), facts) == ()
    for expression in ("cuda>=13,driver>=560", "driver>=560,cuda>=13"):
        with pytest.raises(UnsatisfiedError, match=r"driver>=560 \(this host: 550\)"):
            check((("A", expression),), facts)


def test_unknown_fact_is_reported_once() -> None:
    gpus = [GpuFacts(None, "tesla", f"GPU {n}") for n in (0, 1)]
    twice = check((("A", "cuda>=13"),), Facts(None, "550", gpus))
    assert twice == ("A: not checked: cuda>=13: this host's cuda is unknown",)


def test_message_names_reasons_and_facts() -> None:
    expression = "cuda>=13.1 brand=tesla,driver>=470,driver<471 brand=nvidia,driver>=535,driver<536"
    assert reason(expression) == (
        "NVIDIA_REQUIRE_CUDA is not satisfied: cuda>=13.1 (this host: 12.4); "
        "or brand=nvidia,driver>=535,driver<536: driver<536 (this host: 550.54.15); "
        "or brand=tesla,driver>=470,driver<471: brand=tesla (GPU 0: nvidia); "
        "update the driver, or set NVIDIA_DISABLE_REQUIRE=1"
    )


@pytest.mark.parametrize(
    ("expression", "advice"),
    [
        ("cuda>=13", "update the driver"),
        ("driver>551", "update the driver"),
        ("brand=tesla driver>=560", "update the driver"),
        ("driver<550", "use another image"),
        ("brand=tesla", "use another image"),
        ("arch>=10", "use another image"),
        ("memory>=80", "correct the requirement"),
        ("brand=tesla foo", "correct the requirement"),
    ],
)
def test_message_ends_with_advice(expression: str, advice: str) -> None:
    assert reason(expression).endswith(f"; {advice}, or set NVIDIA_DISABLE_REQUIRE=1")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("what", "what (at character 1) is not a property, one of = != < <= > >=, and a value"),
        ("cuda>=13 what", "what (at character 10) is not a property"),
        ("cuda>=12,cuda>=12.x", "cuda>=12.x (at character 10) has a value that is not a version"),
        (" ,,cuda==12", "cuda==12 (at character 4) is not a property"),
        ("=3", "=3 (at character 1) is not a property"),
        ("cuda>=", "cuda>= (at character 1) is not a property"),
        ("memory>=80", "memory>=80 (at character 1) has an unknown property; the properties are cuda, driver, arch and brand"),
        ("brand<x", "brand<x (at character 1) compares a brand by an operator other than = and !="),
        ("a\x1b[31mb", "a\\x1b[31mb (at character 1) is not a property"),
        ("\u202eevil", "\\u202eevil (at character 1) is not a property"),
    ],
)  # fmt: skip
def test_a_condition_that_cannot_be_parsed_is_shown_with_its_position(
    expression: str, said: str
) -> None:
    assert said in reason(expression)


def test_a_long_expression_makes_no_long_message() -> None:
    for expression in (
        " ".join(f"cuda>={n}" for n in range(100, 9000)),
        ",".join(["cuda>=10"] * 9000 + ["cuda>=100"]),
        "x" * 100_000,
        "cuda>=" + "9" * 100_000,
        "\u1234" * 100_000,
    ):
        assert len(reason(expression)) < 900
    assert f"; or {'x' * 80}... (at character 10)" in reason(f"cuda>=13 {'x' * 81}")
    assert f"; or {'x' * 80} (at character 10)" in reason(f"cuda>=13 {'x' * 80}")
    assert "; or 8894 more; update the driver" in reason(
        " ".join(f"cuda>={n}" for n in range(100, 9000))
    )


def test_an_expression_that_no_environment_holds_is_refused() -> None:
    assert holds("cuda>=12" + " " * ((128 << 10) - 8))
    assert "NVIDIA_REQUIRE_CUDA is longer than 131072 characters" in reason(" " * (1 + (128 << 10)))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ()),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12"}, (("NVIDIA_REQUIRE_CUDA", "cuda>=12"),)),
        (
            {"NVIDIA_REQUIRE_Z": "arch>=9", "NVIDIA_REQUIRE_": "a=1", "PATH": "/bin", "NVIDIA_REQUIRE_CUDA": "b"},
            (("NVIDIA_REQUIRE_", "a=1"), ("NVIDIA_REQUIRE_CUDA", "b"), ("NVIDIA_REQUIRE_Z", "arch>=9")),
        ),
        # Requirements of Jetson have another grammar.
        ({"NVIDIA_REQUIRE_JETPACK": "csv-mounts=all", "NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS": "x"}, ()),
        ({"NVIDIA_REQUIRE": "cuda>=99", "XNVIDIA_REQUIRE_A": "cuda>=99", "nvidia_require_a": "b"}, ()),
        # Old images: no NVIDIA_REQUIRE_CUDA, or an empty one.
        ({"CUDA_VERSION": "8.0.61"}, (("CUDA_VERSION", "cuda>=8.0"),)),
        ({"CUDA_VERSION": "v8.0.61", "NVIDIA_REQUIRE_CUDA": ""}, (("CUDA_VERSION", "cuda>=8.0"),)),
        ({"CUDA_VERSION": "9", "NVIDIA_REQUIRE_X": "a=1"}, (("CUDA_VERSION", "cuda>=9.0"), ("NVIDIA_REQUIRE_X", "a=1"))),
        ({"CUDA_VERSION": "12.4.1", "NVIDIA_REQUIRE_CUDA": "cuda>=12.0"}, (("NVIDIA_REQUIRE_CUDA", "cuda>=12.0"),)),
        ({"CUDA_VERSION": "0.0"}, (("CUDA_VERSION", "cuda>=0.0"),)),
        # The variable is not NVIDIA's alone.
        ({"CUDA_VERSION": "cu121"}, ()), ({"CUDA_VERSION": "latest"}, ()), ({"CUDA_VERSION": ""}, ()),
    ],
)  # fmt: skip
def test_the_environment(
    environment: dict[str, str], expected: tuple[tuple[str, str], ...]
) -> None:
    assert from_environment(environment) == expected


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_requirements_are_switched_off(value: str) -> None:
    off = {
        "NVIDIA_DISABLE_REQUIRE": value,
        "NVIDIA_REQUIRE_CUDA": "cuda>=99",
        "CUDA_VERSION": "99.0",
    }
    assert from_environment(off) == ()


@pytest.mark.parametrize("value", ["", "0", "false", "F", "yes", "on", "tRUE", " 1", "2"])
def test_requirements_are_not_switched_off_by_anything_else(value: str) -> None:
    on = {"NVIDIA_DISABLE_REQUIRE": value, "NVIDIA_REQUIRE_CUDA": "cuda>=99"}
    assert from_environment(on) == (("NVIDIA_REQUIRE_CUDA", "cuda>=99"),)


def test_facts_of_a_document() -> None:
    facts = Facts.from_document(
        {
            "cuda": "13.0",
            "driver": "580.95.05",
            "gpus": [
                {"index": 3, "uuid": "GPU-x", "minor": 2, "arch": "9.0", "brand": "nvidia"},
                {"minor": 5, "arch": None},
            ],
        }
    )
    assert (facts.cuda, facts.driver) == ("13.0", "580.95.05")
    first, second = facts.gpus
    assert (first.index, first.uuid, first.minor, first.arch, first.brand) == (3, "GPU-x", 2, "9.0", "nvidia")  # fmt: skip
    assert first.name == "GPU 3"
    assert (second.index, second.uuid, second.arch, second.brand) == (None, None, None, None)
    assert str(Facts.from_document({})) == "cuda unknown, driver unknown"
    text = "cuda 13.0, driver 580.95.05, GPU 3 arch 9.0, GPU 3 brand nvidia"
    assert str(facts) == f"{text}, GPU arch unknown, GPU brand unknown"


def test_facts_of_the_gpus_that_a_container_has() -> None:
    facts = Facts("12", "550", [H100, T4])
    assert facts.with_nodes([]).gpus == ()
    assert facts.with_nodes([1]).gpus == (T4,)
    known, unknown = facts.with_nodes([0, 7]).gpus
    assert known is H100
    assert (unknown.name, unknown.minor) == ("/dev/nvidia7", 7)
    assert (unknown.arch, unknown.brand) == (None, None)
    assert facts.with_nodes([1]).cuda == "12"


@pytest.mark.parametrize(
    "document",
    [
        {"cuda": 13.0},
        {"driver": ["580"]},
        {"gpus": {}},
        {"gpus": ["GPU-x"]},
        {"gpus": [{"minor": "0"}]},
        {"gpus": [{"brand": 14}]},
    ],
)
def test_facts_of_another_form_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(HookError, match="the host's facts"):
        Facts.from_document(document)


def test_versions() -> None:
    assert version("580.95.05") == (580, 95, 5)
    assert version("12.0") == (12,)
    assert version("0.0") == version("0") == (0,)
    for text in ("", "a", "1a", ".1", "-1", "1,2", "1 2", "\u00b2", "1" * 20):
        assert version(text) is None


def test_positions_of_conditions() -> None:
    text = " a=1,,b=2  c=3"
    for alternative in parse(text):
        for condition in alternative:
            assert text[condition.position - 1 :].startswith(condition.text)
    assert [[each.text for each in part] for part in parse(text)] == [["a=1", "b=2"], ["c=3"]]
