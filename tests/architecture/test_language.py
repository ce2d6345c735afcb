# SPDX-License-Identifier: Apache-2.0
"""Words that `docs/style.md` rejects, in names, comments, docstrings, messages and documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.architecture.checkout import file_names

REPOSITORY = Path(__file__).resolve().parents[2]


class Rule(NamedTuple):
    """A word that is not used here, and what to write."""

    word: str
    """The name of the rule, also in ``REAL_NAMES``."""
    pattern: str
    """A regular expression; letters around it prevent a match, an underscore does not."""
    instead: str
    sample: str
    """A text that the rule rejects."""


RULES = (
    Rule("can not", r"can not(?! only)", "cannot", "a hook can not fail"),
    Rule(
        "peer", r"peers?(?!-to-peer)(?<!peer-to-peer)", "nvidia-ctk; NVIDIA's hook", "as the peer"
    ),
    Rule("house", r"houses?", "architecture; the project", "house rules"),
    Rule("room", r"rooms?(?! for| to\b| left)", "package; module", "five rooms"),
    Rule(
        "floor", r"(?<!math\.)floors?", "layer; base layer; the lowest version", "the ground floor"
    ),
    Rule("trespass", r"trespass[a-z]*", "forbidden import", "a trespasser is seen"),
    Rule("beforehand", r"beforehand", "in advance", "made beforehand"),
    Rule("anew", r"anew", "again; newly", "written anew"),
    Rule("thereof", r"there(?:of|in|by|from|to|upon|with)", "of it; in it", "the end thereof"),
    Rule("whoever", r"whoever|whosoever", "a process that; the user who", "whoever can write it"),
    Rule(
        "somebody", r"some(?:body|one)", "another user; the administrator", "somebody else made it"
    ),
    Rule("desk", r"desks?", "the directory or the machine that is meant", "on its own desk"),
    Rule("rehearse", r"rehears[a-z]*", "dry run; report the change", "a rehearsal"),
    Rule("but for", r"but for", "except", "all but for one"),
    Rule("is none of", r"(?:is|are) none of", "is not a", "it is none of ours"),
    Rule("as ever", r"as ever", "as before; unchanged", "the host is seen as ever"),
)

REAL_NAMES = {
    # The other end of a connection, as the D-Bus specification and the socket API call it.
    ("peer", "hooks/cdi_runtime/prestart/dbus.py"),
    ("peer", "hooks/cdi_runtime/prestart/systemd.py"),
    ("peer", "tests/prestart/test_dbus.py"),
    ("peer", "tests/prestart/test_systemd.py"),
}
"""(word, file) where the word is the proper name of something."""

QUOTING = {"docs/style.md", "tests/architecture/test_language.py"}
"""Files that quote the words in order to reject them."""

RECORDED = ("specs/golden/", "tests/parity/reference/", "docs/gpu/", "requirements/", "LICENSE")
"""Recorded output of programs and texts of others."""

GENERATED = "_pb2.py"
"""The end of the names of protobuf's modules, which hold serialized descriptions."""

SUFFIXES = (".py", ".md", ".c", ".go", ".sh", ".toml", ".yaml", ".yml", ".service", ".json")


def _matcher(rule: Rule) -> re.Pattern[str]:
    words = rule.pattern.replace(" ", r"[\s#*\"]+")
    return re.compile(rf"(?<![a-z])(?:{words})(?![a-z])")


MATCHERS = {rule: _matcher(rule) for rule in RULES}


def files() -> Iterator[str]:
    """The project's own text files, as git lists them."""
    for name in file_names():
        is_text = name.endswith(SUFFIXES) or "." not in Path(name).name
        is_ours = not (name in QUOTING or name.startswith(RECORDED) or name.endswith(GENERATED))
        if is_text and is_ours:
            yield name


def rejected(name: str, text: str) -> Iterator[tuple[Rule, str]]:
    """Each rule that a file breaks, with the place: in its name or at a line."""
    lower_case = text.lower()
    for rule, matcher in MATCHERS.items():
        if (rule.word, name) in REAL_NAMES:
            continue
        if matcher.search(name.lower()):
            yield rule, name
        for match in matcher.finditer(lower_case):
            line = text.count("\n", 0, match.start()) + 1
            yield rule, f"{name}:{line}: {match[0]!r}"


def test_no_rejected_word_is_used() -> None:
    places = [
        f"{place}; write: {rule.instead}"
        for name in files()
        for rule, place in rejected(name, (REPOSITORY / name).read_text(encoding="utf-8"))
    ]
    assert not places, "\n".join(["words that docs/style.md rejects:", *places])


@pytest.mark.parametrize("rule", RULES, ids=[rule.word for rule in RULES])
def test_a_rejected_word_is_reported_with_its_line(rule: Rule) -> None:
    places = [place for _, place in rejected("a.py", f"x = 1\n# {rule.sample}.\n")]
    assert len(places) == 1
    assert places[0].startswith("a.py:2: ")


@pytest.mark.parametrize(
    "text",
    [
        *("it cannot", "can not only read", "nvidia-peermem", "peer-to-peer", "SO_PEERCRED"),
        *("namespace", "housekeeping", "leaves room for a header", "math.floor(x)"),
    ],
)
def test_names_of_real_things_are_accepted(text: str) -> None:
    assert not [*rejected("a.py", text)]


def test_a_word_is_reported_in_the_name_of_a_file_and_across_lines() -> None:
    assert [place for _, place in rejected("tests/test_house.py", "")] == ["tests/test_house.py"]
    assert [place for _, place in rejected("a.py", "# it can\n# not")] == ["a.py:1: 'can\\n# not'"]


def test_a_message_that_is_split_into_two_strings_is_read_as_one() -> None:
    assert len([*rejected("a.py", 'print("a hook can "\n      "not")')]) == 1
