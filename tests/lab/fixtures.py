# SPDX-License-Identifier: Apache-2.0
"""Fixtures that give tests the lab: ``pytest_plugins = ["tests.lab.fixtures"]``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import archives, go, images, node_exporter, nvidia_toolkit, prometheus
from tests.lab.cache import LabUnavailableError
from tests.lab.engines import Lab


@pytest.fixture(scope="session")
def lab_of() -> Callable[[str], Lab]:
    """Give the lab of a suite, or skip the test where there can be none."""
    impossible: dict[str, str] = {}

    def lab(suite: str) -> Lab:
        if suite not in impossible:
            try:
                return Lab(suite)
            except LabUnavailableError as error:
                impossible[suite] = str(error)  # a build that failed is not tried for each test
        pytest.skip(f"no {suite} lab: {impossible[suite]}")

    return lab


@pytest.fixture(scope="session")
def image_archives() -> dict[str, Path]:
    """The archives of ``images.images``."""
    try:
        return images.images()
    except LabUnavailableError as error:
        pytest.skip(f"no images: {error}")


@pytest.fixture(scope="session")
def zoo_archives() -> dict[str, Path]:
    """The archives of ``images.animals``."""
    try:
        return images.animals()
    except LabUnavailableError as error:
        pytest.skip(f"no zoo: {error}")


@pytest.fixture(scope="session")
def nvidia_program() -> Callable[[str], Path]:
    """Give a program of the NVIDIA Container Toolkit by its name, or skip the test."""

    def program(name: str) -> Path:
        try:
            return nvidia_toolkit.program(name)
        except LabUnavailableError as error:
            pytest.skip(str(error))

    return program


@pytest.fixture(scope="session")
def dockerd() -> Path:
    """Give a dockerd that is newer than Debian's; its build takes minutes, once."""
    module, version = "github.com/moby/moby/v2", "v2.0.0-beta.24"
    # Of 2026-09-15, twelve days after 29.8.0: a release's module is tagged apart from it.
    says = {f"{module}/dockerversion.Version": f"29.8.0-moby-{version}"}
    try:
        return go.program(module, version, "cmd/dockerd", variables=says)
    except LabUnavailableError as error:
        pytest.skip(f"no newer dockerd: {error}")


@pytest.fixture(scope="session")
def prometheus_of() -> Callable[[str], Path]:
    """Give the programs of Debian's Prometheus by the suite, or skip the test."""

    def programs(suite: str) -> Path:
        try:
            return prometheus.folder(suite)
        except LabUnavailableError as error:
            pytest.skip(f"no Prometheus: {error}")

    return programs


@pytest.fixture(scope="session")
def node_exporter_program() -> Path:
    """Give node_exporter of Debian, or skip the test."""
    try:
        return node_exporter.program()
    except LabUnavailableError as error:
        pytest.skip(f"no node_exporter: {error}")


@pytest.fixture(scope="session")
def grafana_schema() -> Path:
    """Give a program that checks a dashboard on standard input by Grafana's published schema."""
    module, version = "github.com/grafana/grafana-foundation-sdk/go", "v0.0.22"
    source = Path(__file__).with_name("grafana_schema.go").read_text("utf-8")
    try:
        return go.compiled(source, "grafana-schema", module, version)
    except LabUnavailableError as error:
        pytest.skip(f"no schema of Grafana: {error}")


@pytest.fixture(scope="session")
def operator_types() -> Path:
    """Give a program that checks an object by the Prometheus operator's types."""
    module = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring"
    source = Path(__file__).with_name("prometheus_operator.go").read_text("utf-8")
    try:
        return go.compiled(source, "prometheus-operator-types", module, "v0.95.2")
    except LabUnavailableError as error:
        pytest.skip(f"no types of the Prometheus operator: {error}")


@pytest.fixture(scope="session")
def files_of(
    image_archives: dict[str, Path],
    zoo_archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """Give the files of an image, in a folder that nobody writes to."""
    known = {**image_archives, **zoo_archives}
    base = tmp_path_factory.mktemp("images")

    def files(name: str) -> Path:
        folder = base / name
        if not folder.exists():
            folder.mkdir()
            layer = archives.layer_of(known[name])
            subprocess.run(["tar", "-x", "-C", folder], input=layer, check=True)
        return folder

    return files
