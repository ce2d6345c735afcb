# SPDX-License-Identifier: Apache-2.0
"""Small container images, archives to load with ``podman load -i``: bare distributions, and a zoo
of images as people have them (see zoo.py). Each has the program ``/probe`` (see probe.c).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab import archives, cuda, debian, distributions, zoo
from tests.lab.archives import USUAL, Configuration
from tests.lab.cache import cached, require_root
from tests.lab.distributions import DISTRIBUTIONS, PROBE, Packages

BARE = ("debian", "rhel", "alpine", "distroless")

_HERE = Path(__file__).parent
_RECIPE = tuple(
    _HERE / name for name in ("images.py", "archives.py", "distributions.py", PROBE.name)
)
_RECIPE_OF_ZOO = (*_RECIPE, _HERE / "zoo.py", _HERE / "cuda.py", cuda.REQUIREMENTS)


def images() -> dict[str, Path]:
    """An archive of each bare distribution, by its short name.

    The image in the archive is called ``localhost/NAME:latest``. The name ``all`` is of one
    archive with every image in it; ``pause`` is one whose container waits, for CRI's pods.

    Raises:
        LabUnavailableError: they are not in the cache and cannot be built here.
    """
    folder = cached("images", _text(_RECIPE), _build_bare)
    return {name: folder / f"{name}.tar" for name in (*BARE, "all", "pause")}


def animals() -> dict[str, Path]:
    """An archive of each image of the zoo, called ``localhost/NAME:latest`` in it.

    Raises:
        LabUnavailableError: they are not in the cache and cannot be built here.
    """
    folder = cached("zoo", _text(_RECIPE_OF_ZOO), _build_zoo)
    return {name: folder / f"{name}.tar" for name in zoo.ZOO}


def _build_bare(folder: Path) -> None:
    require_root()
    distributions_ = {name: DISTRIBUTIONS[name] for name in BARE}
    trees = {}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        unpacked = _unpack(
            [(each.suite, each.takes()) for each in distributions_.values()], Path(scratch)
        )
        for name, distribution in distributions_.items():
            tree = Path(scratch, name)
            tree.mkdir()
            distributions.make(name, tree, unpacked[distribution.suite])
            distributions.ldconfig(tree)
            trees[name] = (tree, USUAL)
            archives.archive({name: trees[name]}, folder / f"{name}.tar")
        archives.archive(trees, folder / "all.tar")
        waits = Configuration(command=("/probe", "pause", "-"))
        archives.archive({"pause": (trees["distroless"][0], waits)}, folder / "pause.tar")


def _build_zoo(folder: Path) -> None:
    require_root()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wanted = [
            (
                DISTRIBUTIONS[image.distribution].suite,
                (*DISTRIBUTIONS[image.distribution].takes(), *image.packages),
            )
            for image in zoo.ZOO.values()
        ]
        unpacked = _unpack(wanted, Path(scratch))

        def build(name: str) -> None:
            image = zoo.ZOO[name]
            packages = unpacked[DISTRIBUTIONS[image.distribution].suite]
            tree = Path(scratch, name)
            tree.mkdir()
            distributions.make(image.distribution, tree, packages)
            image.fill(tree, packages)
            distributions.ldconfig(tree)
            archives.archive({name: (tree, image.configuration)}, folder / f"{name}.tar")
            shutil.rmtree(tree)

        with ThreadPoolExecutor(os.cpu_count()) as workers:
            list(workers.map(build, zoo.ZOO))


def _unpack(wanted: Iterable[tuple[str, tuple[str, ...]]], into: Path) -> dict[str, Packages]:
    """The packages of each suite, the suites at once; ``wanted`` are suites with packages."""
    of_suite: dict[str, dict[str, None]] = {}
    for suite, packages in wanted:
        of_suite.setdefault(suite, {}).update(dict.fromkeys(packages))

    def unpack(suite: str) -> Packages:
        return debian.unpack(list(of_suite[suite]), into / f"packages-{suite}", suite=suite)

    with ThreadPoolExecutor() as workers:
        return dict(zip(of_suite, workers.map(unpack, of_suite), strict=True))


def _text(files: Iterable[Path]) -> str:
    return "".join(file.read_text("utf-8") for file in files)
