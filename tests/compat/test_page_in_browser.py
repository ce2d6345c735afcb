# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: sorting, filters, reasons by mouse and keyboard, paper, policies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from cdi_base.errors import printable
from cdi_gen.compat.fleet import matrix, page
from cdi_gen.compat.fleet.matrix import Fleet
from tests.compat import fleets
from tests.compat.browser import Browser, browser, program
from tests.compat.test_matrix import HOSTILE, small
from tests.compat.test_page import hostile

# Chromium and the libraries that it needs are 170 MB of packages.
pytestmark = pytest.mark.nightly

ROWS = "[...document.querySelectorAll('#matrix tbody tr:not(.group)')].filter(row => !row.hidden)"
NAMES = f"{ROWS}.map(row => row.cells[0].textContent)"
HOSTS = "[...document.querySelectorAll('#matrix th.host')].filter(head => !head.hidden)"
PANEL = "document.getElementById('panel')"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if program() is None:
        pytest.skip("no Chromium on this machine")
    with tempfile.TemporaryDirectory() as directory, browser(Path(directory)) as page_of_browser:
        yield page_of_browser


def show(chromium: Browser, fleet: Fleet, change: tuple[str, str] = ("", "")) -> None:
    """Open the page of a fleet, with one text of it changed."""
    content = page.render(fleet)
    assert change[0] in content
    with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as file:
        file.write(content.replace(*change) if change[0] else content)
        file.flush()
        chromium.window(1280)
        chromium.media()
        chromium.open(Path(file.name))


def faults(chromium: Browser) -> list[object]:
    """What the browser logged: violations of the policy, exceptions, failed requests."""
    return [
        event
        for event in chromium.events
        if event.get("method") in {"Log.entryAdded", "Runtime.exceptionThrown"}
    ]


def medium() -> Fleet:
    return matrix.decide(fleets.hosts(40, 12), fleets.images(30))


def click(chromium: Browser, element: str) -> None:
    """Press the mouse in the middle of an element, at which nothing may lie above it."""
    x, y = chromium.evaluate(
        f"(() => {{ const box = {element}; box.scrollIntoView({{block: 'center'}});"
        "const at = box.getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2]; })()"
    )
    chromium.mouse(x, y, click=True)


def requests(chromium: Browser) -> set[str]:
    return {
        event["params"]["request"]["url"].partition(":")[0]
        for event in chromium.events
        if event.get("method") == "Network.requestWillBeSent"
    }


@pytest.mark.parametrize("fleet", [small(), medium(), matrix.decide([], [])])
def test_the_page_obeys_its_policy_and_loads_nothing(chromium: Browser, fleet: Fleet) -> None:
    show(chromium, fleet)
    assert faults(chromium) == []
    assert requests(chromium) == {"file"}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_runs(chromium: Browser, name: str) -> None:
    show(chromium, hostile(name))
    assert faults(chromium) == []
    assert chromium.evaluate("document.querySelectorAll('script, img, iframe').length") == 1
    assert chromium.evaluate("document.querySelector('#matrix tbody th').textContent") == printable(
        name
    )


def test_a_column_sorts_and_the_third_click_restores(chromium: Browser) -> None:
    show(chromium, medium())
    names = chromium.evaluate(NAMES)
    counts = f"{ROWS}.map(row => Number(row.cells[2].dataset.value))"
    button = "document.querySelectorAll('#matrix thead button')[2]"
    before = chromium.evaluate(counts)
    click(chromium, button)
    assert chromium.evaluate(counts) == sorted(before)
    assert chromium.evaluate("document.querySelectorAll('tr.group:not([hidden])').length") == 0
    click(chromium, button)
    assert chromium.evaluate(counts) == sorted(before, reverse=True)
    assert chromium.evaluate(f"{button}.parentElement.getAttribute('aria-sort')") == "descending"
    click(chromium, button)
    assert chromium.evaluate(NAMES) == names
    assert chromium.evaluate("document.querySelectorAll('tr.group:not([hidden])').length") == 9


def test_a_class_of_hosts_sorts_what_does_not_run_to_the_top(chromium: Browser) -> None:
    show(chromium, medium())
    click(chromium, "document.querySelector('#matrix th.host button')")
    kinds = chromium.evaluate(f"{ROWS}.map(row => row.cells[3].dataset.kind)")
    assert kinds[0] == "no"
    assert [kind for kind, _ in groupby(kinds)] == list(dict.fromkeys(kinds))


def test_filters_of_images_hosts_and_verdicts(chromium: Browser) -> None:
    show(chromium, medium())
    click(chromium, "document.getElementById('image-filter')")
    chromium.type("PYTORCH 12.8")
    names = chromium.evaluate(NAMES)
    assert names == ["pytorch/pytorch:12.8.1-base-ubuntu24.04"]
    click(chromium, "document.getElementById('host-filter')")
    chromium.type("rack01-node01")
    assert chromium.evaluate(f"{HOSTS}.map(head => head.dataset.class)") == ["J"]
    branches = "[...document.querySelectorAll('tr.branches th')].filter(cell => !cell.hidden)"
    assert chromium.evaluate(f"{branches}.map(cell => [cell.textContent, cell.colSpan])") == [
        ["R580", 1]
    ]
    shown = "document.getElementById('shown').value"
    assert chromium.evaluate(shown) == "1 of 30 images, 1 of 12 classes of hosts"
    click(chromium, "document.querySelector('#controls button')")
    assert chromium.evaluate(shown) == "30 of 30 images, 12 of 12 classes of hosts"
    for kind in ("native", "minor-version", "forward-compat"):
        click(chromium, f"document.querySelector('input[value={kind}]')")
    assert {name.rpartition(":")[2][:4] for name in chromium.evaluate(NAMES)} == {
        *("13.0", "13.1", "13.2")
    }


def test_the_reason_is_reached_by_the_mouse(chromium: Browser) -> None:
    show(chromium, small())
    x, y = chromium.evaluate(
        "(() => { const box = document.querySelector('td.fails').getBoundingClientRect();"
        "return [box.x + 5, box.y + 5]; })()"
    )
    assert chromium.evaluate(f"{PANEL}.hidden")
    chromium.mouse(x, y)
    assert "app:3 on A" in chromium.evaluate(f"{PANEL}.textContent")
    assert "the image has CUDA 14.0" in chromium.evaluate(f"{PANEL}.textContent")


def test_the_reason_is_reached_by_the_keyboard(chromium: Browser) -> None:
    show(chromium, medium())
    active = "document.activeElement"
    for _ in range(60):
        chromium.key("Tab")
        if chromium.evaluate(f"{active}.matches('#matrix td > a')"):
            break
    cell = f"[{active}.closest('tr').rowIndex, {active}.closest('td').cellIndex]"
    row, column = chromium.evaluate(cell)
    chromium.key("ArrowRight")
    chromium.key("ArrowRight")
    chromium.key("ArrowLeft")
    chromium.key("ArrowDown")
    assert chromium.evaluate(cell) == [row + 1, column + 1]
    name = chromium.evaluate(f"{active}.closest('tr').cells[0].textContent")
    assert chromium.evaluate(f"{PANEL}.textContent").startswith(f"Close{name} on B")
    assert (
        chromium.evaluate("document.querySelectorAll('#matrix td > a[tabindex=\"0\"]').length") == 1
    )
    chromium.key("Escape")
    assert chromium.evaluate(f"{PANEL}.hidden")


def test_without_the_script_each_cell_links_to_its_reason(chromium: Browser) -> None:
    """Jenkins serves reports with a policy that forbids scripts."""
    show(chromium, small(), ("script-src 'sha256-", "script-src 'sha256-x"))
    assert chromium.evaluate("document.getElementById('controls').hidden")
    click(chromium, "document.querySelector('td.fails a')")
    assert chromium.evaluate("location.hash") == "#r1"
    assert chromium.evaluate("document.querySelector(':target .why').checkVisibility()")
    assert "CUDA 14.0" in chromium.evaluate("document.querySelector(':target').textContent")


def test_on_paper_everything_is_visible(chromium: Browser) -> None:
    show(chromium, matrix.decide(fleets.hosts(40, 12), fleets.images(120)))
    chromium.media("print")
    invisible = "[...document.querySelectorAll('#matrix td, .why, .names')].filter(box => !box.checkVisibility())"
    assert chromium.evaluate(f"{invisible}.length") == 0
    clipped = "[...document.querySelectorAll('.scroller, .names')].filter(box => box.scrollHeight > box.clientHeight + 2)"
    assert chromium.evaluate(f"{clipped}.length") == 0
    assert not chromium.evaluate("document.getElementById('controls').checkVisibility()")
    assert chromium.evaluate("document.querySelectorAll('#matrix td.fails sup').length") > 0
    assert chromium.printed().startswith(b"%PDF")


def test_on_paper_a_wide_table_is_in_parts(chromium: Browser) -> None:
    show(chromium, matrix.decide(fleets.hosts(60, 30), fleets.images(9)))
    parts = "[...document.querySelectorAll('.part')].filter(box => box.checkVisibility())"
    assert chromium.evaluate(f"{parts}.length") == 0
    chromium.media("print")
    heads = (
        f"{parts}.flatMap(part => [...part.querySelectorAll('th.host b')].map(b => b.textContent))"
    )
    assert chromium.evaluate(heads) == [matrix.label(number) for number in range(30)]
    assert not chromium.evaluate("document.getElementById('matrix').checkVisibility()")


def test_a_narrow_window_scrolls_the_tables_and_not_the_page(chromium: Browser) -> None:
    show(chromium, medium())
    chromium.window(360)
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 360
    name = "document.querySelector('#matrix tbody tr:not(.group) th').getBoundingClientRect().width"
    assert chromium.evaluate(name) < 180


def test_heads_stay_while_the_table_scrolls(chromium: Browser) -> None:
    show(chromium, matrix.decide(fleets.hosts(200, 60), fleets.images(100)))
    box = "document.querySelector('.scroller')"
    chromium.evaluate(f"{box}.scrollTo(900, 1500)")
    top = f"document.querySelector('#matrix thead').getBoundingClientRect().top - {box}.getBoundingClientRect().top"
    left = f"document.querySelector('#matrix tbody:nth-of-type(4) tr:nth-child(3) th').getBoundingClientRect().left - {box}.getBoundingClientRect().left"
    assert chromium.evaluate(f"{box}.scrollTop") == 1500
    assert 0 <= chromium.evaluate(top) <= 2
    assert 0 <= chromium.evaluate(left) <= 2


CONTRAST = """
(() => {
  const channel = value => (value /= 255) <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const luminance = color => {
    const [red, green, blue] = color.match(/[\\d.]+/g).map(Number);
    return .2126 * channel(red) + .7152 * channel(green) + .0722 * channel(blue);
  };
  const back = box => {
    for (; box; box = box.parentElement) {
      const color = getComputedStyle(box).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
  };
  return Math.min(...[...document.querySelectorAll("td, th, small, code, dd, dt, p, label, b, li, output")].map(box => {
    const [light, dark] = [getComputedStyle(box).color, back(box)].map(luminance).sort((a, b) => b - a);
    return (light + .05) / (dark + .05);
  }));
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(chromium: Browser, scheme: str) -> None:
    show(chromium, small())
    chromium.media(prefers_color_scheme=scheme)
    assert chromium.evaluate(CONTRAST) >= 4.5
