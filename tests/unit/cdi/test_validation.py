# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a spec is found where it is, and weighed by what it does to a container."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdi_gen.cdi import schema, validation
from cdi_gen.cdi.problem import FILE_IGNORED

from . import documents

NODE = "devices.0.containerEdits.deviceNodes.0"
HOOK = "containerEdits.hooks.0"
MOUNT = "containerEdits.mounts.0"


def _at(path: str) -> str:
    return "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in path.split("."))


def test_there_is_nothing_wrong_with_the_good_document() -> None:
    assert validation.check(documents.GOOD) == ()


def _case(item: tuple[Any, ...]) -> str:
    return f"{item[0]}={item[1]!r}"[:60]


@pytest.mark.parametrize("case", documents.FATAL, ids=_case)
def test_one_fatal_fault_is_reported_near_its_place(case: tuple[str, Any]) -> None:
    path, value = case
    found = [p for p in validation.check(documents.changed(path, value)) if p.severity == "fatal"]
    assert found
    assert all(problem.consequence == FILE_IGNORED for problem in found)
    # Faults of fields that are too new are reported at the version.
    assert any(
        problem.path.startswith(_at(path).rstrip("0123456789[]")) or problem.path == ".cdiVersion"
        for problem in found
    )


@pytest.mark.parametrize("case", documents.FATAL_WHOLE, ids=lambda case: case[0])
def test_fatal_documents(case: tuple[str, Any]) -> None:
    assert any(problem.severity == "fatal" for problem in validation.check(case[1]))


@pytest.mark.parametrize("case", documents.PARTLY, ids=_case)
def test_what_some_engines_ignore_is_said_of_those(case: tuple[str, Any, tuple[str, ...]]) -> None:
    path, value, refused_by = case
    problems = validation.check(documents.changed(path, value), with_schema=False)
    refused = set().union(*(problem.refused_by for problem in problems))
    assert refused == set(refused_by)
    (problem,) = (each for each in problems if each.refused_by)
    assert problem.severity in {"error", "warning"}


@pytest.mark.parametrize("case", documents.PARTLY_WHOLE, ids=lambda case: case[0])
def test_documents_that_some_engines_ignore(case: tuple[str, Any, tuple[str, ...]]) -> None:
    problems = validation.check(case[1], with_schema=False)
    assert set().union(*(problem.refused_by for problem in problems)) == set(case[2])


@pytest.mark.parametrize(
    ("change", "libraries", "engines"),
    [
        (
            {"intelRdt": {"enableCMT": True}},
            "from 1.1.0 on",
            "docker from 29.2.0 on, containerd from 2.2.1 on",
        ),
        ({"Env": ["A=b"]}, "from 1.1.1 on", "containerd from 2.4.0 on"),
        ({"netDevices": []}, "from 0.7.0 and before 1.1.0", "podman from 5.1.0 on, docker"),
    ],
)
def test_the_engines_that_ignore_a_file_are_named(
    change: object, libraries: str, engines: str
) -> None:
    """Those that do not read the claimed version are told of at the version."""
    document = {**documents.GOOD, "cdiVersion": "0.7.0", "containerEdits": change}
    (problem,) = (p for p in validation.check(document) if p.severity == "error")
    told = f"engines with a CDI library {libraries} ignore the whole file: {engines}"
    assert problem.consequence.startswith(told)


@pytest.mark.parametrize("case", documents.ACCEPTED, ids=_case)
def test_what_engines_accept_is_not_fatal(case: tuple[str, Any]) -> None:
    problems = validation.check(documents.changed(*case))
    assert not any(problem.severity == "fatal" for problem in problems)


@pytest.mark.parametrize(
    ("path", "value", "severity", "place", "words"),
    [
        (f"{HOOK}.path", "hook", "error", f"{HOOK}.path", "runc refuses"),
        (f"{HOOK}.env", [], "warning", f"{HOOK}.env", "LD_PRELOAD"),
        (f"{HOOK}.env", documents.ABSENT, "warning", f"{HOOK}.env", "as root"),
        (f"{HOOK}.env", ["A=\0"], "error", f"{HOOK}.env.0", "does not start"),
        (f"{HOOK}.timeout", 0, "warning", f"{HOOK}.timeout", "OCI"),
        (f"{MOUNT}.options", ["ro"], "error", f"{MOUNT}.options", "does not start"),
        (f"{MOUNT}.options", documents.ABSENT, "error", f"{MOUNT}.options", "does not start"),
        (f"{MOUNT}.containerPath", "lib", "error", f"{MOUNT}.containerPath", "does not start"),
        (f"{MOUNT}.hostPath", "lib", "error", f"{MOUNT}.hostPath", "does not start"),
        (f"{MOUNT}.hostPath", "/a\0b", "error", f"{MOUNT}.hostPath", "does not start"),
        (f"{MOUNT}.type", documents.ABSENT, "warning", "containerEdits.mounts", "crun#1948"),
        (f"{MOUNT}.type", "", "warning", "containerEdits.mounts", "crun#1948"),
        (f"{NODE}.path", "dev/gpu0", "error", f"{NODE}.path", "does not start"),
        (f"{NODE}.hostPath", "gpu0", "error", f"{NODE}.hostPath", "does not start"),
        (f"{NODE}.type", documents.ABSENT, "warning", NODE, "host has no such node"),
        (f"{NODE}.major", documents.ABSENT, "warning", NODE, "host has no such node"),
        (f"{NODE}.major", 0, "warning", NODE, "host has no such node"),
        (f"{NODE}.fileMode", 0o20666, "warning", f"{NODE}.fileMode", "bits"),
        (f"{NODE}.permissions", "none", "warning", f"{NODE}.permissions", "before 1.1.1"),
        ("kind", "a/gpu", "error", "kind", "crash"),
        ("kind", "vendor/b", "error", "kind", "crash"),
        ("cdiVersion", "v0.5.0", "warning", "cdiVersion", "no 'v'"),
        ("cdiVersion", "1.0.0", "warning", "cdiVersion", "podman 5.5.0, docker 28.1.0"),
        ("devices.0.name", 0, "warning", "devices.0.name", "read it as text"),
        (
            "containerEdits.mounts.1",
            documents.GOOD["containerEdits"]["mounts"][0],
            "warning",
            "containerEdits.mounts.1.containerPath",
            "only the later mount",
        ),
    ],
)
def test_what_runtimes_stumble_over(
    path: str, value: Any, severity: str, place: str, words: str
) -> None:
    (problem,) = validation.check(documents.changed(path, value))
    assert (problem.severity, problem.path) == (severity, _at(place))
    assert words in problem.consequence


def test_groups_and_intel_rdt_are_not_for_everybody() -> None:
    document = {**documents.GOOD, "cdiVersion": "0.7.0"}
    document["containerEdits"] = {"additionalGids": [0, 44], "intelRdt": {"closID": "a"}}
    found = {problem.path: problem for problem in validation.check(document)}
    assert "dropped by docker" in found[".containerEdits.additionalGids"].consequence
    assert "leave it out" in found[".containerEdits.additionalGids[0]"].consequence
    assert "resctrl" in found[".containerEdits.intelRdt"].consequence
    assert {problem.severity for problem in found.values()} == {"warning"}


@pytest.mark.parametrize("mount_type", ["tmpfs", "proc"])
def test_mounts_of_other_types_need_no_bind(mount_type: str) -> None:
    document = documents.changed(f"{MOUNT}.type", mount_type)
    document["containerEdits"]["mounts"][0] |= {"options": ["ro"], "hostPath": mount_type}
    assert validation.check(document) == ()


def test_mounts_without_a_type_are_counted_once() -> None:
    """And a mount of the devices is one too."""
    mount = {"hostPath": "/a", "options": ["bind"]}
    document = documents.changed(f"{MOUNT}.type", documents.ABSENT)
    document["containerEdits"]["mounts"] += [
        {**mount, "containerPath": "/b"},
        {**mount, "containerPath": "/c", "type": "bind"},
    ]
    document["devices"][0]["containerEdits"]["mounts"] = [{**mount, "containerPath": "/d"}]
    found = validation.check(document)
    assert [(each.path, each.message, each.severity) for each in found] == [
        (".containerEdits.mounts", "2 of 3 mounts have no 'type: bind'", "warning"),
        (".devices[0].containerEdits.mounts", "1 of 1 mounts have no 'type: bind'", "warning"),
    ]


def test_a_fifo_needs_no_major() -> None:
    document = documents.changed(f"{NODE}.type", "p")
    del document["devices"][0]["containerEdits"]["deviceNodes"][0]["major"]
    assert validation.check(document) == ()


def test_a_version_that_is_too_low_is_told_why() -> None:
    document = documents.changed("containerEdits.additionalGids", [44])
    (problem,) = (p for p in validation.check(document) if p.severity == "fatal")
    assert str(problem) == ".cdiVersion: claims 0.5.0, but needs 0.7.0 for additionalGids"


def test_a_version_that_is_needlessly_high_is_told_the_lower() -> None:
    (problem,) = validation.check({**documents.GOOD, "cdiVersion": "0.6.0"})
    assert problem.message == "claims 0.6.0; 0.5.0 is enough"


def test_problems_are_ordered_by_place_and_numbers_count_as_numbers() -> None:
    document = documents.changed("containerEdits.env", ["A=b"] * 12)
    document["containerEdits"]["env"][2] = document["containerEdits"]["env"][10] = "bad"
    document["devices"][0]["name"] = "-"
    assert [problem.path for problem in validation.check(document)] == [
        ".containerEdits.env[2]",
        ".containerEdits.env[10]",
        ".devices[0].name",
    ]


def test_a_place_is_named_once_however_many_see_the_fault() -> None:
    document = documents.changed("devices.0.name", documents.ABSENT)
    paths = [problem.path for problem in validation.check(document)]
    assert paths == [".devices[0].name"]


def test_a_spec_can_be_checked_as_well_as_its_document_or_its_text() -> None:
    document = documents.changed(f"{HOOK}.env", [])
    text = json.dumps(document)
    assert validation.check_text(text) == validation.check(document)
    assert validation.check_text("{") != ()


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], "."),
        ({"cdiVersion": "0.5.0", "kind": "a/b"}, ".devices"),
        ({**documents.GOOD, "devices": None}, ".devices"),
        ({**documents.GOOD, "devices": [{"name": "a"}]}, ".devices[0].containerEdits"),
        (documents.changed(f"{HOOK}.timeout", -1), ".containerEdits.hooks[0].timeout"),
        (documents.changed(f"{MOUNT}.options", [1]), ".containerEdits.mounts[0].options[0]"),
    ],
)
def test_the_schema_of_the_standard_is_applied(document: object, path: str) -> None:
    (problem,) = schema.check(document)
    assert problem.path == path
    assert problem.severity == "warning"


def test_the_schema_looks_nothing_up_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: pytest.fail("went to the network"))
    assert schema.check(documents.GOOD) == ()
