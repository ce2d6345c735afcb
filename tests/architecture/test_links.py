# SPDX-License-Identifier: Apache-2.0
"""Relative links of the documentation lead to files of the repository; `make docs` checks anchors too."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for pattern in ("*.md", "docs/**/*.md", "hooks/*.md", "tests/**/*.md", ".github/**/*.md")
    for path in REPOSITORY.glob(pattern)
)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"[a-z]+:|#")


def broken_links(page: str, text: str) -> list[str]:
    """The targets in a page that are no file; a directory is none that the site could show."""
    targets = [target for target in LINK.findall(text) if not ELSEWHERE.match(target)]
    folder = REPOSITORY / os.path.dirname(page)
    return [target for target in targets if not (folder / target.partition("#")[0]).is_file()]


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files(page: str) -> None:
    assert not broken_links(page, (REPOSITORY / page).read_text(encoding="utf-8"))


def test_a_broken_link_is_reported() -> None:
    text = "[a](../README.md) [b](none.md#x) [c](https://example.com) [d](#here) [e](../docs)"
    assert broken_links("docs/page.md", text) == ["none.md#x", "../docs"]


def test_the_index_of_the_site_names_every_page() -> None:
    index = (REPOSITORY / "docs/site/index.md").read_text(encoding="utf-8")
    entries = [
        os.path.normpath(os.path.join("docs/site", line))
        for line in index.splitlines()
        if re.fullmatch(r"[\w./*-]+", line)
    ]
    pages = [page for page in PAGES if page.startswith("docs/") and page != "docs/site/index.md"]
    missing = [page for page in pages if not any(fnmatch.fnmatch(page, at) for at in entries)]
    assert not missing, "add them to a list in docs/site/index.md"
