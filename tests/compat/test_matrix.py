# SPDX-License-Identifier: Apache-2.0
"""Hosts that are equal in what matters are one class, and every form has the same verdicts."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from cdi_base.errors import printable
from cdi_base.findings import Finding
from cdi_gen.compat.facts import HostFacts, HostGpu, ImageFacts
from cdi_gen.compat.fleet import document, image_list, junit, marks, matrix, page, spreadsheet, text
from cdi_gen.compat.fleet.matrix import HOST, IMAGE, Fleet, Unreadable
from cdi_gen.compat.fleet.reasons import ranges, reasons, summary
from cdi_gen.errors import CdiGenError
from tests.compat import fleets

H100 = HostGpu(name="NVIDIA H100 80GB HBM3", capability="9.0", brand="nvidia")
HOST_580 = HostFacts(
    name="gpu-1",
    driver="580.95.05",
    cuda="13.0",
    kernel_module="open",
    architecture="x86_64",
    gpus=(H100, H100),
)
IMAGE_12_8 = ImageFacts(name="app:1", architecture="amd64", cuda="12.8.1", cuda_source="a path")
IMAGE_13_1 = replace(IMAGE_12_8, name="app:2", cuda="13.1.0")
IMAGE_14 = replace(IMAGE_12_8, name="app:3", cuda="14.0")
UNREAD = (
    Unreadable(
        subject=HOST, name="gpu-9", reason=Finding("CDG-I001", "error", "not JSON", fix="try again")
    ),
    Unreadable(subject=IMAGE, name="gone:1", reason=Finding("CDG-M104", "error", "no such file")),
)


def small() -> Fleet:
    """One image that runs, one with limits, one that does not run, on two hosts of a class."""
    hosts = [HOST_580, replace(HOST_580, name="gpu-2", gpus=(H100,))]
    return matrix.decide(hosts, [IMAGE_12_8, IMAGE_13_1, IMAGE_14], UNREAD)


def test_the_number_of_gpus_does_not_divide_a_class() -> None:
    fleet = small()
    assert [host_class.hosts for host_class in fleet.classes] == [("gpu-1", "gpu-2")]
    assert fleet.hosts == 2


@pytest.mark.parametrize(
    "other",
    [
        {"driver": "580.82.07"},
        {"kernel_module": "proprietary"},
        {"architecture": "aarch64"},
        {"gpus": (H100, replace(H100, name="NVIDIA L40S", capability="8.9"))},
        {"gpus": ()},
    ],
    ids=["driver", "module", "architecture", "another GPU", "no GPU"],
)
def test_what_matters_divides_a_class(other: dict[str, object]) -> None:
    hosts = [HOST_580, replace(HOST_580, name="gpu-2", **other)]  # type: ignore[arg-type]
    assert len(matrix.decide(hosts, [IMAGE_12_8]).classes) == 2


def test_verdicts_are_numbered_from_the_worst() -> None:
    fleet = small()
    severities = [marks.severity(verdict) for verdict in fleet.verdicts]
    assert severities == [marks.FAILS, marks.LIMITED, marks.RUNS]
    assert [row.cells for row in fleet.rows] == [(2,), (1,), (0,)]
    assert summary(fleet) == (
        "3 images on 2 hosts (1 class): 4 of 6 pairs run, 2 do not, 2 inputs not read"
    )


def test_a_thousand_hosts_are_as_many_columns_as_kinds() -> None:
    fleet = matrix.decide(fleets.hosts(1000, 24), fleets.images(50))
    assert (len(fleet.classes), fleet.hosts, len(fleet.rows)) == (24, 1000, 50)


ARM = replace(HOST_580, name="grace-1", architecture="aarch64")


def kinds(fleet: Fleet) -> dict[str, list[str]]:
    """The verdicts of each image by host, in the order of the architectures' names."""
    order = sorted(range(len(fleet.classes)), key=lambda each: str(fleet.classes[each].facts))
    assert [fleet.classes[each].hosts for each in order] == [("grace-1",), ("gpu-1",)]
    return {
        row.facts.name: [fleet.verdicts[row.cells[each]].kind for each in order]
        for row in fleet.rows
    }


def test_an_image_of_several_platforms_runs_on_the_hosts_of_each() -> None:
    fleet = matrix.decide(
        [HOST_580, ARM],
        [IMAGE_12_8, replace(IMAGE_12_8, architecture="arm64"), replace(IMAGE_12_8, name="amd64")],
    )
    assert kinds(fleet) == {"app:1": ["native", "native"], "amd64": ["no", "native"]}


def test_images_are_read_for_each_architecture_of_the_hosts() -> None:
    def open_image(source: str, architecture: str | None) -> ImageFacts:
        if source == "amd64" and architecture == "arm64":
            raise CdiGenError("no such platform", code="CDG-M021")
        if source == "gone":
            raise CdiGenError(f"gone for {architecture}", code="CDG-M021")
        return replace(IMAGE_12_8, name="", architecture=architecture)

    lines = ["both", "amd64", "gone"]
    images, unread = image_list.read(lines, ".", ["amd64", "arm64"], open_image)
    assert [(image.name, image.architecture) for image in images] == [
        ("both", "amd64"),
        ("both", "arm64"),
        ("amd64", "amd64"),
    ]
    assert [(row.name, row.reason.message) for row in unread] == [("gone", "gone for amd64")]
    assert kinds(matrix.decide([HOST_580, ARM], images))["both"] == ["native", "native"]


def test_the_order_of_hosts_does_not_matter() -> None:
    """Nor the hash seed: nothing is in the order of a set."""
    hosts = [*fleets.hosts(60, 24)]
    expected = matrix.decide(hosts, fleets.images(9))
    random.Random(1).shuffle(hosts)
    assert matrix.decide(hosts, fleets.images(9)) == expected


@pytest.mark.parametrize("number", [(0, "A"), (25, "Z"), (26, "AA"), (701, "ZZ"), (702, "AAA")])
def test_columns_are_counted_as_in_spreadsheets(number: tuple[int, str]) -> None:
    assert matrix.label(number[0]) == number[1]


def test_successive_columns_are_a_range() -> None:
    assert ranges([0, 1, 2, 4, 6, 7]) == [(0, 2), (4, 4), (6, 7)]


def test_each_cell_stands_at_exactly_one_reason() -> None:
    fleet = matrix.decide(fleets.hosts(40, 12), fleets.images(12))
    cells = [
        (image, column, reason.number - 1)
        for reason in reasons(fleet)
        for place in reason.places
        for image in place.images
        for column in place.columns
    ]
    expected = [
        (row.facts.name, column, cell)
        for row in fleet.rows
        for column, cell in enumerate(row.cells)
    ]
    assert sorted(cells) == sorted(expected)


def test_text_has_the_table_and_what_does_not_run() -> None:
    lines = text.render(small()).split("\n")
    assert "A  580.95.05  13.0  NVIDIA H100 80GB HBM3  2      gpu-1, gpu-2" in lines
    assert "app:1  12.8.1  \u2713 native" in lines
    assert "app:2  13.1.0  ! minor" in lines
    assert "app:3  14.0    \u2717 no" in lines
    no = next(line for line in lines if line.startswith("\u2717 no: "))
    assert "CDG-M004" in no
    assert lines[lines.index(no) + 1] == "    on A: app:3"
    assert "host      gpu-9   not JSON [CDG-I001] Fix: try again" in lines


def test_text_is_divided_where_the_terminal_ends() -> None:
    fleet = matrix.decide(fleets.hosts(40, 12), fleets.images(12))
    lines = text.render(fleet, width=120).split("\n")
    tables = [line for line in lines if line.startswith("IMAGE ")]
    assert len(tables) > 1
    assert [label for line in tables for label in line.split()[2:]] == list("ABCDEFGHIJKL")
    rows = [line for line in lines if line.startswith("nvidia/cuda:12.8.1")]
    assert len(rows) == len(tables)
    assert max(map(len, rows)) <= 120


def test_text_without_unicode_has_ascii_signs() -> None:
    assert text.render(small(), signs=marks.ASCII_SIGNS).isascii()


def test_json_has_every_cell_and_its_reason() -> None:
    content = json.loads(document.render(small()))
    assert content["formatVersion"] == 1
    pairs = {"native": 2, "minor-version": 2, "forward-compat": 0, "no": 2, "unknown": 0}
    assert content["summary"]["pairs"] == pairs
    assert content["hostClasses"][0]["hosts"] == ["gpu-1", "gpu-2"]
    cells = {cell["image"]: cell for cell in content["cells"]}
    assert cells["app:3"]["verdict"] == "no"
    detail = content["details"][cells["app:3"]["detail"]]
    assert [reason["code"] for reason in detail["reasons"]] == ["CDG-M004"]
    assert [row["name"] for row in content["unreadable"]] == ["gpu-9", "gone:1"]
    assert all(source["date"] and source["source"] for source in content["data"])


def test_csv_has_a_line_for_each_class_and_image() -> None:
    rows = [*csv.DictReader(io.StringIO(spreadsheet.render(small())))]
    assert [(row["image"], row["class"], row["hosts"], row["verdict"]) for row in rows] == [
        ("app:1", "A", "2", "native"),
        ("app:2", "A", "2", "minor-version"),
        ("app:3", "A", "2", "no"),
        ("", "", "", "unreadable"),
        ("gone:1", "", "", "unreadable"),
    ]
    assert rows[0]["host_names"] == "gpu-1 gpu-2"
    assert rows[3]["host_names"] == "gpu-9"
    assert all(None not in row and None not in row.values() for row in rows)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_has_no_formula(name: str) -> None:
    """OWASP, CSV Injection: a spreadsheet calculates such a cell, quoted or not."""
    fleet = matrix.decide([HOST_580], [replace(IMAGE_12_8, name=name)])
    row = next(csv.DictReader(io.StringIO(spreadsheet.render(fleet))))
    assert row["image"].startswith("'")


def test_junit_is_read_by_a_reader_of_junit() -> None:
    report = JUnitXml.fromstring(junit.render(small(), ["host gpu-1 has left"]).encode())
    assert (report.tests, report.failures, report.errors) == (6, 2, 2)
    suites = {suite.name: [*suite] for suite in report}
    assert [*suites] == [
        "driver 580.95.05 (CUDA 13.0, open, x86_64), NVIDIA H100 80GB HBM3 9.0 nvidia",
        "inputs",
        "lock file",
    ]
    first, inputs, lock = suites.values()
    assert [(case.name, [type(result) for result in case.result]) for case in first] == [
        ("app:1", []),
        ("app:2", []),
        ("app:3", [Failure]),
    ]
    assert "driver 580.95.05" in first[2].result[0].message
    assert [type(case.result[0]) for case in inputs] == [Error, Error]
    assert [type(case.result[0]) for case in lock] == [Failure]


def test_junit_skips_what_is_not_known() -> None:
    fleet = matrix.decide([HOST_580], [replace(IMAGE_12_8, cuda=None)])
    (suite,) = JUnitXml.fromstring(junit.render(fleet).encode())
    (case,) = suite
    assert [type(result) for result in case.result] == [Skipped]


HOSTILE = (
    "</td><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "]]></testcase>&amp;",
    "\x1b[31m\x00\ufffe\udc80\u202etxt",
    "a\nb",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_every_form(name: str) -> None:
    fleet = matrix.decide(
        [replace(HOST_580, name=name, gpus=(replace(H100, name=name),))],
        [replace(IMAGE_12_8, name=name, cuda="14.0", cuda_source=name, digest=name)],
        [
            Unreadable(subject=subject, name=name, reason=Finding("CDG-I001", "error", name))
            for subject in (HOST, IMAGE)
        ],
    )
    shown = printable(name)
    for form in (text, spreadsheet, document, junit, page):
        content = form.render(fleet)
        content.encode("utf-8")
        assert "\x1b" not in content
        assert "\u202e" not in content
    assert shown in text.render(fleet)
    assert json.loads(document.render(fleet))["images"][0]["image"] == name
    assert next(iter(JUnitXml.fromstring(junit.render(fleet).encode()))).tests == 1
    rows = [*csv.reader(io.StringIO(spreadsheet.render(fleet)))]
    assert {len(row) for row in rows} == {len(spreadsheet.COLUMNS)}


@pytest.mark.parametrize("form", [text, document, spreadsheet, junit, page])
def test_an_empty_fleet_has_every_form(form: object) -> None:
    nothing = matrix.decide([], [])
    assert form.render(nothing)  # type: ignore[attr-defined]
    assert form.render(matrix.decide([], [IMAGE_12_8], UNREAD))  # type: ignore[attr-defined]
    assert form.render(matrix.decide([HOST_580], []))  # type: ignore[attr-defined]
