# SPDX-License-Identifier: Apache-2.0
"""Laws that hold for every spec, not only for those we thought of."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cdi_gen.cdi import names, validation, versions, wire, yamltext
from cdi_gen.cdi.model import ContainerEdits, Device, DeviceNode, IntelRdt, Mount, NetDevice, Spec
from cdi_gen.cdi.problem import SpecError

from . import strategies as cdi

FORMATS: st.SearchStrategy[wire.Format] = st.sampled_from(["json", "yaml"])


class Yaml12Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2.2, chapter 10.3.2, as far as a plain scalar is concerned."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the type is the base class's


for tag, pattern, first in (
    ("null", r"null|Null|NULL|~|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    Yaml12Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first)
    )


@given(cdi.specs)
def test_what_is_written_reads_back_the_same(spec: Spec) -> None:
    assert wire.load(wire.dump(spec, "json")) == spec
    assert wire.load(wire.dump(spec, "yaml")) == spec
    assert wire.from_document(wire.to_document(spec)) == spec


@given(cdi.specs)
def test_json_yaml_1_1_and_yaml_1_2_readers_agree(spec: Spec) -> None:
    document = wire.to_document(spec)
    as_json, as_yaml = wire.dump(spec, "json"), wire.dump(spec, "yaml")
    assert json.loads(as_json) == document
    assert yaml.safe_load(as_yaml) == document
    assert yaml.load(as_yaml, Yaml12Loader) == document


@given(cdi.specs)
def test_the_json_is_yaml_too(spec: Spec) -> None:
    # Engines read JSON with a YAML parser.
    text = wire.dump(spec, "json")
    assert yaml.safe_load(text) == wire.to_document(spec)
    assert yaml.load(text, Yaml12Loader) == wire.to_document(spec)
    assert yamltext.parse(text) == (wire.to_document(spec), [])


def test_the_1_2_reader_of_these_tests_is_one() -> None:
    assert yaml.load("[0x1f, 0o17, on, 1:0, 1_0]", Yaml12Loader) == [31, 15, "on", "1:0", "1_0"]
    for loader, kind in ((Yaml12Loader, "float"), (yaml.SafeLoader, "str")):
        node = yaml.compose("12e3", loader)
        assert node is not None
        assert node.tag.endswith(kind)


@given(cdi.specs)
def test_text_ends_with_one_newline_and_has_no_control_characters(spec: Spec) -> None:
    for text in (wire.dump(spec, "json"), wire.dump(spec, "yaml")):
        assert all(
            " " <= character <= "~" or character > "\uffff"
            for character in text[:-1].replace("\n", "")
        )
        assert text.endswith("\n")
        assert not text.endswith("\n\n")


@given(cdi.good_specs)  # an empty key is the one thing that they write differently
def test_both_yaml_emitters_write_the_same(spec: Spec) -> None:
    fast = getattr(yaml, "CSafeDumper", None)
    if fast is None:
        pytest.skip("PyYAML without libyaml")
    written = wire.dump(spec, "yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "CSafeDumper", yaml.SafeDumper)
        assert wire.dump(spec, "yaml") == written


@given(cdi.good_specs)
def test_engines_ignore_no_good_spec(spec: Spec) -> None:
    assert [p for p in validation.check(spec) if p.severity == "fatal"] == []


@given(cdi.good_specs, st.sampled_from(versions.KNOWN_VERSIONS))
def test_a_spec_is_fatal_below_its_minimum_version_and_nowhere_else(
    spec: Spec, version: str
) -> None:
    problems = validation.check(replace(spec, cdi_version=version), with_schema=False)
    too_low = versions.compare(version, versions.minimum_version(spec)) < 0
    assert any(p.severity == "fatal" and p.path == ".cdiVersion" for p in problems) == too_low


@given(cdi.specs, cdi.devices, cdi.edits)
def test_adding_never_lowers_the_minimum_version(
    spec: Spec, device: Device, edits: ContainerEdits
) -> None:
    added = replace(edits, intel_rdt=None)  # of which there is one: it would replace, not add
    grown = [
        replace(spec, devices=(*spec.devices, device)),
        replace(spec, container_edits=spec.container_edits | added),
        replace(spec, annotations=(*spec.annotations, ("a", "b"))),
    ]
    for other in grown:
        assert (
            versions.compare(versions.minimum_version(other), versions.minimum_version(spec)) >= 0
        )


ADDED = (
    ("0.4.0", ContainerEdits(mounts=(Mount(host_path="/a", container_path="/a", type="bind"),))),
    ("0.5.0", ContainerEdits(device_nodes=(DeviceNode(path="/dev/a", host_path="/dev/b"),))),
    ("0.7.0", ContainerEdits(additional_gids=(44,))),
    ("0.7.0", ContainerEdits(intel_rdt=IntelRdt())),
    ("1.1.0", ContainerEdits(intel_rdt=IntelRdt(enable_monitoring=True))),
    ("1.1.0", ContainerEdits(intel_rdt=IntelRdt(schemata=("L3:0=f",)))),
    ("1.1.0", ContainerEdits(net_devices=(NetDevice(host_interface_name="a", name="b"),))),
)


@given(cdi.specs, st.sampled_from(ADDED), st.booleans())
def test_a_field_needs_its_version_wherever_it_is(
    spec: Spec, added: tuple[str, ContainerEdits], in_device: bool
) -> None:
    version, edits = added
    if in_device:
        spec = replace(spec, devices=(*spec.devices, Device(name="a", container_edits=edits)))
    else:
        spec = replace(spec, container_edits=spec.container_edits | edits)
    assert versions.compare(versions.minimum_version(spec), version) >= 0


def _once(edits: ContainerEdits) -> ContainerEdits:
    return edits | ContainerEdits()


@given(cdi.edits, cdi.edits, cdi.edits)
def test_edits_add_up(one: ContainerEdits, two: ContainerEdits, three: ContainerEdits) -> None:
    one = _once(one)
    assert one | ContainerEdits() == ContainerEdits() | one == one
    assert one | one == one
    assert (one | two) | three == one | (two | three)


@given(cdi.edits, cdi.edits)
def test_edits_keep_their_order_and_lose_none(one: ContainerEdits, two: ContainerEdits) -> None:
    both = one | two
    for field in ("env", "device_nodes", "net_devices", "hooks", "mounts", "additional_gids"):
        merged = list(getattr(both, field))
        first, second = getattr(one, field), getattr(two, field)
        assert set(merged) == set(first) | set(second)
        assert len(set(merged)) == len(merged)
        assert merged == sorted(merged, key=(first + second).index)
    assert bool(both) == (bool(one) or bool(two))


def _load(text: str | bytes) -> Spec | SpecError:
    try:
        return wire.load(text)
    except SpecError as error:
        return error


@given(st.text() | st.binary())
@example("{" * 5000)
@example("[" * 100_000)
@example("- " * 20_000)
@example('{"a":' * 2000)
@example("? " * 5000)
@example("9" * 100_000)
@example('{"cdiVersion": ' + "9" * 100_000 + "}")
@example("cdiVersion: " + "9" * 100_000)
@example('"\\U00110000"')
@example('"\\uD800"')
@example("&a [*a]")
@example("*a")
@example("--- a\n--- b")
@example("a: 1\na: 2")
@example("!!python/object/apply:os.system [id]")
@example("\ufeff")
@example(b"\xff\xfe{\x00}\x00")
@example("1e999")
@settings(deadline=3000)
def test_any_text_is_a_spec_or_a_spec_error(text: str | bytes) -> None:
    outcome = _load(text)
    if isinstance(outcome, SpecError):
        assert outcome.problems
        assert str(outcome)


@st.composite
def mutilated(draw: st.DrawFn) -> str:
    """The text of a spec, after a few accidents."""
    text = wire.dump(draw(cdi.good_specs | cdi.specs), draw(FORMATS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        insert = draw(
            st.sampled_from(
                [
                    *cdi.TREACHEROUS,
                    "{",
                    "}",
                    "[",
                    "]",
                    ",",
                    '"',
                    "null",
                    "\n",
                    "\n  ",
                    "1e999",
                    "-0",
                ]
            )
            | st.text(max_size=3)
        )
        text = text[:start] + insert + text[end:]
    return text


@given(mutilated())
@settings(deadline=3000, max_examples=300)
def test_a_mutilated_spec_is_a_spec_or_a_spec_error(text: str) -> None:
    outcome = _load(text)
    if isinstance(outcome, SpecError):
        problems = validation.check_text(text, with_schema=False)
        assert any(problem.severity == "fatal" for problem in problems)
    else:
        assert wire.load(wire.dump(outcome)) == outcome


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | cdi.texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            cdi.texts
            | st.sampled_from(["cdiVersion", "kind", "devices", "name", "containerEdits"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_document_gets_a_verdict(
    document: object,
) -> None:
    problems = validation.check(document)
    try:
        wire.from_document(document)
    except SpecError:
        assert any(problem.severity == "fatal" for problem in problems)


@given(cdi.kind_parts, cdi.kind_parts, cdi.device_names)
def test_a_qualified_name_reads_back(vendor: str, device_class: str, device: str) -> None:
    name = names.QualifiedName(vendor=vendor, device_class=device_class, device=device)
    assert names.parse(str(name)) == name
    assert names.parse_kind(name.kind) == (vendor, device_class)


@given(st.text("ab0_-.:/= é\n", max_size=8) | st.text())
def test_a_name_is_read_or_refused_with_a_reason(text: str) -> None:
    grammar = r"[A-Za-z]([\w.-]*[A-Za-z0-9])?/[A-Za-z]([\w.-]*[A-Za-z0-9])?=[A-Za-z0-9]([\w.:-]*[A-Za-z0-9])?"
    good = re.fullmatch(grammar, text, re.ASCII) is not None
    if good:
        assert str(names.parse(text)) == text
    else:
        with pytest.raises(names.BadNameError, match=r"."):
            names.parse(text)


@given(cdi.specs)
def test_a_problem_points_at_something(spec: Spec) -> None:
    document = wire.to_document(spec)
    assume(document["devices"])
    for problem in validation.check(spec, with_schema=False):
        value: Any = document
        for key in re.findall(r"\[(\d+)\]|\.([A-Za-z0-9]+)", problem.path):
            # The last step may lead to what is missing.
            index, name = key
            value = value[int(index)] if index else value.get(name, {})
