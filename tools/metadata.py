# SPDX-License-Identifier: Apache-2.0
"""Writes the metadata of the Python distribution that pip and `importlib.metadata` read.

For packages of distributions whose build backend is older than pyproject.toml needs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tomlkit

CHECKOUT = Path(__file__).resolve().parents[1]


def metadata(version: str) -> str:
    """Return the file METADATA (core metadata 2.1)."""
    project = tomlkit.parse((CHECKOUT / "pyproject.toml").read_text()).unwrap()["project"]
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {project['name']}",
        f"Version: {version}",
        f"Summary: {project['description']}",
        f"License: {project['license']}",
        f"Requires-Python: {project['requires-python']}",
        *(f"Classifier: {classifier}" for classifier in project["classifiers"]),
        *(f"Requires-Dist: {dependency}" for dependency in project["dependencies"]),
    ]
    for extra, dependencies in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {name}; extra == "{extra}"' for name in dependencies]
    return "\n".join(lines) + "\n"


def write(directory: Path) -> None:
    """Write the metadata beside the packages of a directory."""
    sys.path.insert(0, str(CHECKOUT / "hooks"))
    from cdi_base import VERSION  # noqa: PLC0415 - from the sources, which need not be installed

    information = directory / f"cdi_gen-{VERSION}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(metadata(VERSION), encoding="utf-8")
    (information / "INSTALLER").write_text("distribution\n", encoding="utf-8")
    (information / "entry_points.txt").write_text(
        "[console_scripts]\ncdi-gen = cdi_gen.__main__:main\n"
        "nvidia-toolkit = cdi_gen.__main__:nvidia_toolkit\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
