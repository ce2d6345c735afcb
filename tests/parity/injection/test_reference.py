# SPDX-License-Identifier: Apache-2.0
"""A configuration after `inject` is the one that the standard's own library would have made.

Both get the same specs, the same configuration and the same nodes of this host. What ours made is
read by the library once more before it is compared: so it means the same to a runtime. The few
`DIFFERENCES` are meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from cdi_gen.cdi.document import from_document
from cdi_gen.cdi.inject import InjectError, NodeStatus, UnresolvedError, inject, look_at
from cdi_gen.cdi.model import Spec
from cdi_gen.cdi.validation import check
from tests.lab.cache import LabUnavailableError
from tests.parity.injection import nodes, strategies
from tests.parity.injection.reference import Reference

pytestmark = pytest.mark.network

DIFFERENCES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "a field that nobody knows, or not yet, is kept": ({"x": {"y": 1}}, {}),
    "what is empty or null stays as it is written": ({"mounts": [], "hooks": None}, {}),
    "a field in capitals is another field, as to crun": ({"Hostname": "a"}, {"hostname": "a"}),
    "what no edit touches may be of any type": ({"root": []}, None),
    "a number may be larger than the field": (
        {"linux": {"resources": {"pids": {"limit": 2**70}}}},
        None,
    ),
}
"""Why ours differs; a configuration, to which a variable is added, and what the library makes of it
(None: it refuses). One more: after an error ours is unchanged, and the library's half changed."""


@pytest.fixture(scope="module")
def reference() -> Iterator[Reference]:
    try:
        program = Reference()
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    yield program
    program.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("nodes")
    try:
        nodes.make(made)
    except PermissionError:
        pytest.skip("needs to be allowed to make device nodes")
    return f"{made}/"


def as_engines_read(document: Any) -> Spec | None:
    """The spec, unless engines ignore it."""
    if any(problem.severity == "fatal" for problem in check(document, with_schema=False)):
        return None
    return from_document(document)


def ours(question: dict[str, Any], look: Callable[[str], NodeStatus] = look_at) -> dict[str, Any]:
    """The answer to a question in the form in which the reference gives it."""
    directories = [
        [spec for document in documents if (spec := as_engines_read(document))]
        for documents in question["directories"]
    ]
    try:
        return {"config": inject(question["config"], question["devices"], *directories, look=look)}
    except UnresolvedError as error:
        unknown = {*error.absent, *error.conflicting}
        return {"unresolved": [name for name in question["devices"] if name in unknown]}
    except InjectError as error:
        return {"failed": str(error)}


def agree(reference: Reference, question: dict[str, Any], folder: str) -> str:
    """Hold the two against each other; return what kind of answer it was."""
    question = nodes.moved(question, nodes.PREFIX, folder)
    wanted, found = reference.ask(question), ours(question)
    assert found.keys() == wanted.keys(), (wanted, found)
    (kind,) = wanted
    if kind == "config":
        assert reference.as_read(found["config"]) == wanted["config"]
    elif kind == "unresolved":
        assert found == wanted
    return kind


PATIENT: dict[str, Any] = {
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}


def agree_on(reference: Reference, folder: str, examples: int) -> None:
    """Four questions an example; of each kind of answer there are enough."""
    kinds: Counter[str] = Counter()

    @settings(max_examples=examples, **PATIENT)
    @given(strategies.questions())
    def of(questions: list[dict[str, Any]]) -> None:
        kinds.update(agree(reference, question, folder) for question in questions)

    of()
    assert all(kinds[kind] >= 20 for kind in ("config", "unresolved", "failed")), kinds


def test_it_makes_what_the_library_makes(reference: Reference, folder: str) -> None:
    agree_on(reference, folder, 250)


@pytest.mark.parametrize(("config", "theirs"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_the_differences_are_meant(
    reference: Reference, config: dict[str, Any], theirs: dict[str, Any] | None
) -> None:
    device = {"name": "0", "containerEdits": {"env": ["A=b"]}}
    spec = {"cdiVersion": "0.5.0", "kind": "v.com/a", "devices": [device]}
    version = {"ociVersion": "1.2.0"}
    question = {"directories": [[spec]], "config": version | config, "devices": ["v.com/a=0"]}
    added = {"process": {"user": {"uid": 0, "gid": 0}, "cwd": "", "env": ["A=b"]}}
    assert ours(question) == {"config": version | config | added}
    answer = reference.ask(question)
    assert answer.get("config") == (None if theirs is None else version | theirs | added)


@pytest.mark.nightly
@pytest.mark.parametrize("_round", range(20))
def test_it_always_makes_what_the_library_makes(
    reference: Reference, folder: str, _round: int
) -> None:
    """In rounds: Hypothesis keeps all examples of a run in memory, 20,000 in 2 GB."""
    agree_on(reference, folder, 1000)
