# SPDX-License-Identifier: Apache-2.0
"""Where `cdi-gen why` says that an engine finds a device, releases of the standard's library find it.

The cases are the broken spec directories that engines are asked about too, and directories of them
in two orders; and the texts of the tests of validation.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cdi_base.cdi.libraries import newest_cdi_version
from cdi_gen.why.lookup import look_up, refusal
from cdi_gen.why.readers import Reader
from cdi_gen.why.spec_files import Host
from cdi_gen.why.user import ROOT
from tests.lab import go
from tests.lab.cache import LabUnavailableError
from tests.unit.cdi.texts import TEXTS
from tests.unit.why.broken_specs import CASES, ETC, FILES, GOOD, RUN, Case, Directory, Link

from .oracle import LIBRARY, UNTIL_0_6, Oracle

pytestmark = pytest.mark.network

RELEASES = ("0.5.0", "0.5.2", "0.5.4", "0.6.2", "0.7.2", "0.8.1", "1.0.1", "1.1.0", "1.1.1")


def reader(release: str, *directories: str) -> Reader:
    """An engine with a release of the library."""
    return Reader(
        engine="nerdctl",
        version="9.9.9",
        user=ROOT,
        rootless=False,
        cdi="on",
        directories=directories,
        source="default",
        library=release,
        newest_cdi_version=newest_cdi_version(release),
    )


class Laid(NamedTuple):
    """A case that was laid out below a directory."""

    case: Case
    etc: str
    run: str


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> list[Laid]:
    root = tmp_path_factory.mktemp("broken")
    return [_lay_out(case, root / case.id) for case in CASES]


def _lay_out(case: Case, root: Path) -> Laid:
    """Lay out a case, whose links lead to files beside it."""
    for path, text in {f"{FILES}/good.json": GOOD, f"{FILES}/specs/why.json": GOOD}.items():
        file = Path(f"{root}{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path, entry in case.entries.items():
        place = Path(f"{root}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, Link):
            place.symlink_to(f"{root}{entry.target}")
        elif isinstance(entry, Directory):
            place.mkdir(exist_ok=True)
        else:
            place.write_text(entry.text)
    return Laid(case, f"{root}{ETC}", f"{root}{RUN}")


def _questions(laid: list[Laid]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for place in laid:
        yield place.case.requested, (place.etc, place.run)
        yield place.case.requested, (place.run, place.etc)
        # A file where a directory is expected.
        yield place.case.requested, (f"{place.etc}/why.json", place.etc)


@pytest.mark.parametrize("release", RELEASES)
def test_the_library_resolves_what_why_says(release: str, laid: list[Laid], tmp_path: Path) -> None:
    module = UNTIL_0_6 if release.startswith("0.5.") else LIBRARY
    text = Path(__file__).with_name("resolve.go").read_text().replace(LIBRARY, module)
    try:
        program = go.compiled(text, "cdi-resolve", module, f"v{release}")
    except LabUnavailableError as error:
        pytest.skip(str(error))
    questions = [question for question in _questions(laid) if "=" in question[0]]
    lines = [
        json.dumps({"name": name, "directories": directories}) for name, directories in questions
    ]
    ended = subprocess.run(
        [program], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    host = Host()
    differences = []
    for (name, directories), line in zip(questions, ended.stdout.splitlines(), strict=True):
        lookup = look_up(name, reader(release, *directories), host, ())
        ours = lookup.definition.file.path if lookup.definition else None
        theirs = json.loads(line)
        if ours != (theirs and os.path.normpath(theirs)):
            differences.append((name, directories, ours, theirs))
    assert differences == []


@pytest.mark.parametrize("release", ["0.5.0", "0.5.2"])
def test_early_releases_refuse_what_why_says(release: str, tmp_path: Path) -> None:
    """The others are compared in test_library.py."""
    texts = {str(index): text for index, text in enumerate(TEXTS.values())}
    (tmp_path / "specs").mkdir()
    for index, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
        (tmp_path / f"specs/{index}.yaml").write_bytes(content)
    verdicts = Oracle(release, tmp_path).verdicts(texts)
    files = Host().directory(str(tmp_path / "specs")).files
    ours = {Path(file.path).stem: refusal(file, reader(release)) for file in files}
    assert {
        index: (verdicts[index], problem)
        for index, problem in ours.items()
        if verdicts[index].startswith("refused") != (problem is not None)
    } == {}
