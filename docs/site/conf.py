# SPDX-License-Identifier: Apache-2.0
"""Configuration of Sphinx for `make docs`. The pages are the Markdown files of the repository."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

REPOSITORY = os.path.abspath("../..")
sys.path[:0] = [os.path.join(REPOSITORY, folder) for folder in (".", "hooks", "specs")]

import cdi_gen  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "cdi-gen"
copyright = "the authors of cdi-gen"  # noqa: A001 - the name that Sphinx reads
release = cdi_gen.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/site/index"
include_patterns = ["*.md", "docs/*.md", "docs/**/*.md", "hooks/README.md"]
exclude_patterns = ["out", "dist"]
suppress_warnings = ["myst.header"]  # a page may begin its sections where it likes

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
default_role = "code"  # docstrings write `name`

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!cdi_).*")]  # the standard library's names are not linked

html_theme = "furo"
html_title = f"cdi-gen {release}"
html_copy_source = False
html_extra_path = ["redirect"]


def _field_description(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Restore the description of a field: `None: any` is no type, and a tuple's default no text."""
    if what != "attribute":
        return
    types = [line.removeprefix(":type: ") for line in lines if line.startswith(":type: ")]
    text = [line for line in lines if line and not line.startswith(":type: ")]
    if types and text:
        lines[:] = [f"{types[0]}: {text[0]}", *text[1:]]
    elif text and text[0].startswith("Alias for field number"):
        lines.clear()


def setup(app: Sphinx) -> None:
    """Called by Sphinx; napoleon has priority 500."""
    app.connect("autodoc-process-docstring", _field_description, priority=600)
