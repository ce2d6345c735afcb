# SPDX-License-Identifier: Apache-2.0
"""Every difference from what nvidia-ctk writes for the same host is in the reviewed table.

``reference/nvidia_ctk/`` holds what nvidia-ctk wrote on the fake hosts, so that every clone can compare. Where
Go builds the program, it writes them again and they have to be the same.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cdi_gen.cdi.wire import to_document
from cdi_gen.generate import generate
from cdi_gen.generate.modes import transports
from cdi_gen.generate.options import Options
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import HostPath
from tests.bench import nvidia_ctk
from tests.fakehost.hosts import FakeHost
from tests.lab import go, nvidia_toolkit
from tests.parity import table
from tests.parity.comparison import Difference, differences

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = Path(__file__).parent / "reference/nvidia_ctk"
DOCUMENT = REPOSITORY / "docs/differences-from-nvidia-ctk.md"
HOOK = HookProgram(path=HostPath("/usr/libexec/cdi-gen/cdi-gen-hook"))


class Case(NamedTuple):
    """A fake host, and the options for each of the two programs."""

    host: str
    theirs: tuple[str, ...] = ()
    options: Options = Options()
    hook: HookProgram | None = HOOK
    mode: str | None = None
    """A mode of ``transports.MODES``; None: the mode for GPUs."""


CASES = {
    "1gpu": Case("550-1gpu"),
    "8gpu": Case("550-8gpu"),
    "debian": Case("550-debian"),
    "hgx": Case("550-hgx"),
    "mig": Case("550-mig56"),
    "nohooks": Case("550-8gpu", ("--disable-hook=all",), hook=None),
    "uuid-only": Case(
        "550-8gpu",
        ("--device-name-strategy=uuid", "--no-all-device"),
        Options(names=("uuid",), all_device=False),
    ),
    "imex": Case("550-hgx", ("--mode=imex",), mode="imex"),
    "nvswitch": Case("550-hgx", ("--mode=nvswitch",), mode="nvswitch"),
}


@pytest.fixture
def compared(
    host: Callable[[str], FakeHost], look: Callable[..., Inventory]
) -> Callable[[str], list[Difference]]:
    """A function that compares the two specs of a case and returns their differences."""

    def compare(name: str) -> list[Difference]:
        case = CASES[name]
        inventory = dataclasses.replace(look(case.host), hook=case.hook)
        if case.mode is None:
            ours = generate(inventory, case.options)
        else:
            transport_spec = transports.spec(case.mode, inventory)
            assert transport_spec
            ours = transport_spec
        return differences(reference(name), to_document(ours), host(case.host).resolve)

    return compare


def reference(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((REFERENCE / f"{name}.json").read_text(encoding="utf-8"))
    return spec


@pytest.mark.host
@pytest.mark.parametrize("name", CASES)
def test_nvidia_ctk_writes_the_reference(
    nvidia_program: Callable[[str], Path],
    host: Callable[[str], FakeHost],
    name: str,
    pytestconfig: pytest.Config,
) -> None:
    """The newest nvidia-ctk, run on the same fake host, still writes the recorded spec."""
    case = CASES[name]
    spec = nvidia_ctk.spec(str(nvidia_program("nvidia-ctk")), host(case.host), *case.theirs)
    if pytestconfig.getoption("--update-golden"):
        text = json.dumps(spec, indent=1) + "\n"
        (REFERENCE / f"{name}.json").write_text(text, encoding="utf-8")
    assert spec == reference(name)


@pytest.mark.nightly
def test_there_is_no_newer_nvidia_ctk() -> None:
    versions = go.versions(nvidia_toolkit.MODULE)
    released = [version for version in versions if "-" not in version]
    assert released[-1] == nvidia_toolkit.VERSION


def test_the_document_names_the_version_compared_with() -> None:
    version = nvidia_toolkit.VERSION.removeprefix("v")
    assert f"Compared with version {version}" in DOCUMENT.read_text(encoding="utf-8")
    assert f"| {version}, driver" in (REFERENCE.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.host
@pytest.mark.parametrize("name", CASES)
def test_every_difference_is_in_the_table(
    compared: Callable[[str], list[Difference]], name: str
) -> None:
    facts = [fact for row in table.rows() for fact in row.facts if name in fact.specs]
    unlisted = [
        difference
        for difference in compared(name)
        if not any(fact.matches(difference) for fact in facts)
    ]
    assert not unlisted


@pytest.mark.host
@pytest.mark.parametrize("name", CASES)
def test_everything_in_the_table_still_occurs(
    compared: Callable[[str], list[Difference]], name: str
) -> None:
    """A difference belongs to the first fact that it fits; each fact must have one."""
    facts = [fact for row in table.rows() for fact in row.facts if name in fact.specs]
    found = {
        next((fact for fact in facts if fact.matches(difference)), None)
        for difference in compared(name)
    }
    assert not [fact for fact in facts if fact not in found]


def test_every_reference_spec_is_compared() -> None:
    assert {path.stem for path in REFERENCE.glob("*.json")} == set(CASES)


def test_the_document_has_the_table(pytestconfig: pytest.Config) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(table.START)
    _, _, after = rest.partition(table.END)
    expected = before + table.rendered() + after
    if pytestconfig.getoption("--update-golden"):
        DOCUMENT.write_text(expected, encoding="utf-8")
    assert text == expected or pytestconfig.getoption("--update-golden")


def test_a_new_difference_would_be_seen() -> None:
    """The comparison passes over nothing: each single change of a spec is a difference."""
    spec = reference("1gpu")
    assert not differences(spec, spec, str)
    for path in _leaves(spec):
        changed = json.loads(json.dumps(spec))
        place = changed
        for step in path[:-1]:
            place = place[step]
        old = place[path[-1]]
        place[path[-1]] = old + 1 if isinstance(old, int) else f"{old}x"
        assert differences(spec, changed, str), path


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = enumerate(value) if isinstance(value, list) else value.items()
    found: list[tuple[Any, ...]] = []
    for key, item in items:
        here = (*path, key)
        found += _leaves(item, here) if isinstance(item, (dict, list)) else [here]
    return found


def test_the_options_that_are_the_same_are_there() -> None:
    """Each option and variable of the document's first table is one of the command line's."""
    from cdi_gen.cli import generate, main

    parameters = [*main.params, *generate.command.params]
    known = {option: each.envvar for each in parameters for option in each.opts}
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text.partition("## The same\n")[2].partition("\n## ")[0]
    rows = [re.findall(r"`(.+?)`", line) for line in section.splitlines() if "| `-" in line]
    assert len(rows) == 18
    for *names, variable in rows:
        for name in names:
            envvar = known[name]
            assert variable == envvar or variable in (envvar or ())


def test_what_is_accepted_and_does_nothing_is_documented() -> None:
    from cdi_gen.cli.host_options import FEATURE_FLAGS
    from cdi_gen.generate.modes import UNSUPPORTED

    text = DOCUMENT.read_text(encoding="utf-8")
    assert not [name for name in (*FEATURE_FLAGS, *UNSUPPORTED) if f"`{name}`" not in text]
