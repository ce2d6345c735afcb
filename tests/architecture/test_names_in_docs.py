# SPDX-License-Identifier: Apache-2.0
"""Files, modules and functions that the documentation and the configuration of tools name exist."""

from __future__ import annotations

import fnmatch
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.checkout import file_names

REPOSITORY = Path(__file__).resolve().parents[2]
HOOKS = REPOSITORY / "hooks"
PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for pattern in ("[!C]*.md", "CONTRIBUTING.md", "docs/**/*.md", "hooks/*.md", "specs/*.md")
    for path in REPOSITORY.glob(pattern)
)
"""The changelog is about former names too."""

SPAN = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"[\w.*/-]+")
TOP = (
    "cdi_gen/",
    "deploy/",
    "docs/",
    "hooks/",
    "specs/",
    "systemd/",
    "tests/",
    "tools/",
    "requirements/",
)
SOURCE = (".py", ".c", ".service")
DOTTED = re.compile(r"\b(?:cdi_gen|cdi_base|cdi_hook|cdi_runtime|cdi_specs)(?:\.[A-Za-z_]\w*)+")
PLACEHOLDER = re.compile(r"(?<![A-Za-z])[A-Z]{3,}(?![A-Za-z.])")
"""A component such as HOST, which stands for a name."""

TABLE = re.compile(r"^\| module of `(\w+)` \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", re.MULTILINE)


def repository_files() -> list[str]:
    """Paths of the files in the repository, and of their directories, with a slash in front."""
    names = file_names()
    folders = {str(parent) for name in names for parent in Path(name).parents} - {"."}
    return [f"/{name}" for name in (*names, *sorted(folders))]


@pytest.fixture(scope="module")
def paths() -> list[str]:
    return repository_files()


def named_paths(text: str) -> Iterator[str]:
    """Paths in code spans: below a directory of the repository, or of source files anywhere."""
    for span in SPAN.findall(FENCE.sub("", text)):
        if not PATH.fullmatch(span) or PLACEHOLDER.search(span) or span.startswith(("/", "*")):
            continue
        if span.startswith(TOP) or span.endswith(SOURCE):
            yield span.rstrip("/")


def missing_paths(text: str, paths: list[str]) -> list[str]:
    """The named paths that no path of the repository ends in."""
    return [name for name in named_paths(text) if not fnmatch.filter(paths, f"*/{name}")]


def missing_names(text: str) -> list[str]:
    """The dotted names that are neither a module nor in one."""
    return [name for name in dict.fromkeys(DOTTED.findall(text)) if not exists(name)]


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    module, *attributes = name.split(".")
    value: object = importlib.import_module(module)
    for attribute in attributes:
        module = f"{module}.{attribute}"
        if hasattr(value, attribute):
            value = getattr(value, attribute)
            continue
        try:
            value = importlib.import_module(module)
        except ImportError:
            return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page: str, paths: list[str]) -> None:
    assert not missing_paths((REPOSITORY / page).read_text(encoding="utf-8"), paths)


def test_the_directories_of_the_architecture_exist(paths: list[str]) -> None:
    """They are written relative to `cdi_gen`, or to the package in front of them."""
    text = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
    folders = [span for span in SPAN.findall(text) if re.fullmatch(r"[a-z_/]+/", span)]
    assert len(folders) > 20
    assert not [name for name in folders if not fnmatch.filter(paths, f"*/{name.rstrip('/')}")]


@pytest.mark.parametrize("page", PAGES)
def test_named_modules_and_functions_exist(page: str) -> None:
    assert not missing_names((REPOSITORY / page).read_text(encoding="utf-8"))


TOOLS = ("noxfile.py", "pyproject.toml", "Makefile", ".pre-commit-config.yaml")
"""What names files and tests to pytest, coverage and hatchling, which ignore a name without a file."""

TEST = re.compile(r"tests/[\w/]+\.py::[\w:]+")
IN_REPOSITORY = re.compile(r"(?<![\w/-])(?:cdi_gen|docs|hooks|specs|tests|tools)/[\w./*-]*[\w*]")


def missing_tests(text: str) -> list[str]:
    """The node ids of tests whose file has no such class or function."""
    missing = []
    for node_id in TEST.findall(text):
        file, *names = node_id.split("::")
        source = (REPOSITORY / file).read_text(encoding="utf-8")
        if not all(re.search(rf"(?:class|def) {name}\b", source) for name in names):
            missing.append(node_id)
    return missing


@pytest.mark.parametrize("name", TOOLS)
def test_files_named_to_tools_exist(name: str, paths: list[str]) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    # The right side of a file that the wheel has elsewhere is a path in the wheel.
    text = re.sub(r'^("[\w/.-]+") = ".*"$', r"\1", text, flags=re.MULTILINE)
    patterns = IN_REPOSITORY.findall(text)
    assert patterns
    assert not [pattern for pattern in patterns if not fnmatch.filter(paths, f"/{pattern}")]


@pytest.mark.parametrize("name", TOOLS)
def test_tests_named_to_tools_exist(name: str) -> None:
    assert not missing_tests((REPOSITORY / name).read_text(encoding="utf-8"))


def test_a_missing_test_is_reported() -> None:
    file = "tests/architecture/test_names_in_docs.py"
    text = f"{file}::exists {file}::none"
    assert missing_tests(text) == [f"{file}::none"]


def test_a_missing_file_is_reported(paths: list[str]) -> None:
    text = (
        "`tests/none.py` `none.py` `hooks/none/` `tests/architecture` `test_links.py` `/etc/x.py`"
    )
    assert missing_paths(text, paths) == ["tests/none.py", "none.py", "hooks/none"]


def test_a_missing_function_is_reported() -> None:
    text = "cdi_gen.store.read(directories) cdi_gen.store.none cdi_base.none.x cdi_base.trust"
    assert missing_names(text) == ["cdi_gen.store.none", "cdi_base.none.x"]


def modules(package: Path) -> set[str]:
    """The modules and packages directly in a package; packages with a slash."""
    names = {path.stem for path in package.glob("*.py")} - {"__init__"}
    return names | {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}


TABLES = dict(TABLE.findall((HOOKS / "README.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("package", ["cdi_hook", "cdi_base", "cdi_runtime"])
def test_the_tables_of_the_hooks_have_every_module(package: str) -> None:
    rows = [line.split("|")[1] for line in TABLES[package].splitlines()]
    named = {name for row in rows for name in SPAN.findall(row)}
    assert named == modules(HOOKS / package)


@pytest.mark.parametrize("package", ["cdi_hook", "cdi_base", "cdi_runtime"])
def test_the_tables_of_the_hooks_name_existing_modules_of_packages(package: str) -> None:
    for line in TABLES[package].splitlines():
        _, first, contents, _ = line.split("|")
        packages = [name for name in SPAN.findall(first) if name.endswith("/")]
        if packages:
            existing = set[str]().union(*(modules(HOOKS / package / name) for name in packages))
            named = {name for name in SPAN.findall(contents) if re.fullmatch(r"[a-z_]+", name)}
            assert named <= existing, line
