# SPDX-License-Identifier: Apache-2.0
"""The page by its markup: complete without script and style, nothing loaded, names never markup."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from cdi_base.findings import Finding
from cdi_gen.compat.fleet import matrix, page
from cdi_gen.compat.fleet.matrix import HOST, IMAGE, Fleet, Unreadable
from tests.compat import fleets
from tests.compat.test_matrix import H100, HOST_580, HOSTILE, IMAGE_12_8, small

VOID = {"meta", "input"}

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "script", "header", "footer", "section"),
    *("h1", "h2", "h3", "p", "div", "span", "b", "small", "sup", "code", "bdi", "a", "aside"),
    *("dl", "dt", "dd", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
    *("form", "label", "input", "fieldset", "legend", "button", "output"),
}

ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "hidden", "type"),
    *("role", "aria-label", "tabindex", "scope", "colspan", "autocomplete", "value", "checked"),
    *("data-sort", "data-class", "data-kind", "data-value"),
}


class Markup(HTMLParser):
    """The elements of a page; unbalanced elements are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.targets: set[str] = set()
        self.content: dict[str, list[str]] = {"script": [], "style": []}
        self.policy = ""
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), "an attribute twice"
        self.tags.add(tag)
        self.attributes |= attributes.keys()
        if "id" in attributes:
            self.ids.append(attributes["id"] or "")
        if "href" in attributes:
            self.targets.add(attributes["href"] or "")
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"] or ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.content:
            self.content[self._open[-1]].append(data)
        elif data.strip():
            self.words.append(data.strip())


def hostile(name: str) -> Fleet:
    finding = Finding("CDG-I001", "error", name, fix=name)
    return matrix.decide(
        [
            replace(HOST_580, name=name, gpus=(replace(H100, name=name),)),
            replace(HOST_580, driver=f"580.{name}"),
        ],
        [replace(IMAGE_12_8, name=name, cuda="14.0", cuda_source=name)],
        [Unreadable(subject=each, name=name, reason=finding) for each in (HOST, IMAGE)],
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_markup(name: str) -> None:
    markup = Markup(page.render(hostile(name)))
    assert markup.tags <= TAGS
    assert markup.attributes <= ATTRIBUTES
    assert len(markup.content["script"]) == len(markup.content["style"]) == 1


def test_the_policy_permits_the_own_script_and_style_and_nothing_else() -> None:
    markup = Markup(page.render(small()))
    hashes = {
        tag: base64.b64encode(hashlib.sha256("".join(content).encode()).digest()).decode()
        for tag, content in markup.content.items()
    }
    assert markup.policy == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; "
        f"script-src 'sha256-{hashes['script']}'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(
        r"@import|url\(|fetch|XMLHttp|\.style\b|innerHTML|eval", str(markup.content)
    )


def test_nothing_is_loaded_and_every_link_leads_to_a_place_of_the_page() -> None:
    fleet = matrix.decide(fleets.hosts(60, 30), fleets.images(30))
    markup = Markup(page.render(fleet))
    assert len(markup.ids) == len({*markup.ids})
    assert markup.targets == {
        *(f"#r{number}" for number in range(1, len(fleet.verdicts) + 1)),
        *(f"#class-{host_class.label}" for host_class in fleet.classes),
    }
    assert {target.removeprefix("#") for target in markup.targets} <= {*markup.ids}


def test_each_cell_has_a_sign_and_a_word_and_each_reason_is_in_the_page() -> None:
    words = Markup(page.render(small())).words
    for sign, word, number in (
        ("\u2713", "native", "3"),
        ("!", "minor", "2"),
        ("\u2717", "no", "1"),
    ):
        at = words.index(number)
        assert words[at - 2 : at] == [sign, word]
    text = " ".join(words)
    assert "the image has CUDA 14.0 (a path), driver 580.95.05 supports CUDA up to 13.0" in text
    assert "gone:1 no such file CDG-M104" in text
    assert "not JSON CDG-I001 Fix: try again gpu-9" in text


def test_long_tables_are_grouped_by_cuda_and_printed_in_parts() -> None:
    fleet = matrix.decide(fleets.hosts(60, 30), fleets.images(30))
    content = page.render(fleet)
    assert content.count('<table class="part">') == 3
    words = Markup(content).words
    titles = [word for word in words if re.fullmatch(r"CUDA \d+\.\d+", word)]
    assert titles[:9] == [
        f"CUDA {version}"
        for version in ("10.2", "11.8", "12.2", "12.4", "12.6", "12.8", "13.0", "13.1", "13.2")
    ]


def test_short_tables_keep_the_order_of_the_list() -> None:
    content = page.render(matrix.decide([HOST_580], fleets.images(9)))
    names = re.findall(r'<th scope="row"><bdi>([^<]*)', content)
    assert names == [image.name for image in fleets.images(9)]
