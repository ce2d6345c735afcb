# SPDX-License-Identifier: Apache-2.0
"""NVIDIA_REQUIRE_*, against an evaluator that is written in another way."""

from __future__ import annotations

import re
from itertools import zip_longest

from hypothesis import example, given
from hypothesis import strategies as st

from cdi_base.requirement import Facts, GpuFacts, UnsatisfiedError, check, from_environment
from tests.fuzz.targets import tried

NUMBERS = st.sampled_from(["0", "1", "2", "3", "10", "00", "01", "470", "550"])
VERSIONS = st.lists(NUMBERS, min_size=1, max_size=4).map(".".join)
BRANDS = st.sampled_from(["tesla", "nvidia", "geforce", "unknown"])
OPERATORS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])

CONDITIONS = st.one_of(
    st.tuples(st.sampled_from(["cuda", "driver", "arch"]), OPERATORS, VERSIONS).map("".join),
    st.tuples(st.just("brand"), st.sampled_from(["=", "!="]), BRANDS).map("".join),
    st.sampled_from(
        ["", "cuda", "cuda>=", "cuda==1", "brand<tesla", "memory>=80", "cuda>=x", "\n"]
    ),
)
ALTERNATIVES = st.lists(CONDITIONS, max_size=4).map(",".join)
EXPRESSIONS = st.lists(ALTERNATIVES, max_size=4).map(" ".join)

GPUS = st.builds(GpuFacts, st.none() | VERSIONS, st.none() | BRANDS)
FACTS = st.builds(Facts, st.none() | VERSIONS, st.none() | VERSIONS, st.lists(GPUS, max_size=3))


def compare(left: str, right: str) -> int:
    """-1, 0 or 1; the shorter version is filled up with zeros."""
    for a, b in zip_longest(left.split("."), right.split("."), fillvalue="0"):
        if int(a) != int(b):
            return -1 if int(a) < int(b) else 1
    return 0


def condition(text: str, facts: Facts, gpu: GpuFacts | None, unknown: bool) -> bool:
    found = re.fullmatch(r"(cuda|driver|arch)(=|!=|<=|<|>=|>)([0-9.]+)|(brand)(=|!=)(\w+)", text)
    if not found:
        return False
    name = found[1] or found[4]
    if name in {"arch", "brand"} and gpu is None:
        return True
    value = getattr(facts if name in {"cuda", "driver"} else gpu, name)
    if value is None:
        return unknown
    if name == "brand":
        return (found[5] == "=") is (value == found[6])
    sign = {-1: "<", 0: "=", 1: ">"}[compare(value, found[3])]
    return sign != "=" if found[2] == "!=" else sign in found[2]


def naive(expression: str, facts: Facts, *, unknown: bool) -> bool:
    """Whether it holds for every GPU if each condition on what is not known has this answer."""
    alternatives = [
        [text for text in each.split(",") if text]
        for each in expression.split(" ")
        if each.strip(",")
    ]
    return not alternatives or all(
        any(all(condition(text, facts, gpu, unknown) for text in each) for each in alternatives)
        for gpu in facts.gpus or [None]
    )


@given(EXPRESSIONS, FACTS)
@example(
    "cuda>=13 brand=tesla,driver>=470,driver<471", Facts("12", "470.1", [GpuFacts("7.5", "tesla")])
)
def test_the_verdict(expression: str, facts: Facts) -> None:
    verdict = tried(check, (("NVIDIA_REQUIRE_CUDA", expression),), facts)
    assert refused_by(verdict) is not naive(expression, facts, unknown=True)
    if not refused_by(verdict):
        assert bool(verdict) is not naive(expression, facts, unknown=False)


@given(EXPRESSIONS, EXPRESSIONS, FACTS)
def test_alternatives_and_gpus(one: str, other: str, facts: Facts) -> None:
    """Either for each GPU, and not: one of the two for all."""
    if all(text.strip(" ,") for text in (one, other)):
        each: list[tuple[GpuFacts, ...]] = [(gpu,) for gpu in facts.gpus] or [()]
        either = all(passes(one, facts, gpus) or passes(other, facts, gpus) for gpus in each)
        assert passes(f"{one} {other}", facts, facts.gpus) is either


def passes(expression: str, facts: Facts, gpus: tuple[GpuFacts, ...]) -> bool:
    alone = Facts(facts.cuda, facts.driver, gpus)
    return not refused_by(tried(check, (("A", expression),), alone))


def refused_by(verdict: object) -> bool:
    return isinstance(verdict, UnsatisfiedError)


@given(st.text(max_size=300), FACTS)
def test_any_text_is_read(text: str, facts: Facts) -> None:
    verdict = tried(check, ((text, text),), facts)
    assert all(line.isprintable() for line in ([str(verdict)] if refused_by(verdict) else verdict))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "NVIDIA_REQUIRE_CUDA",
                "NVIDIA_REQUIRE_X",
                "CUDA_VERSION",
                "NVIDIA_REQUIRE_JETPACK",
                "NVIDIA_DISABLE_REQUIRE",
                "PATH",
            ]
        ),
        st.text(max_size=8) | VERSIONS,
    )
)
def test_any_environment_is_read(environment: dict[str, str]) -> None:
    for name, expression in from_environment(environment):
        assert name in environment
        assert expression
        assert "JETPACK" not in name
