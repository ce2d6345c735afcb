# SPDX-License-Identifier: Apache-2.0
"""Configurations of Prometheus made of those in deploy/monitoring, for the targets of tests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.host.looking import REPOSITORY
from tests.lab.prometheus import Sample, Server

MONITORING = "deploy/monitoring"
PATIENCE = 120.0
OF_TARGET = ("job", "instance")
"""Labels that Prometheus gives."""


def configuration(address: str, *, repository: Path = REPOSITORY, **job: Any) -> dict[str, Any]:
    """Return ``prometheus/hosts.yml`` with one target, scraped and judged twice a second.

    Args:
        address: of the target, over HTTP without a password, unless ``job`` says otherwise.
        repository: where Prometheus finds the rules.
        job: keys of the job that differ.
    """
    document = _fast("hosts", repository)
    (scrape,) = document["scrape_configs"]
    for key in ("scheme", "tls_config", "basic_auth", "file_sd_configs"):
        scrape.pop(key)
    scrape |= {"static_configs": [{"targets": [address]}], **job}
    return document


def cluster_configuration(api: str, token: str, repository: Path) -> dict[str, Any]:
    """Return ``prometheus/kubernetes.yml`` for a Prometheus that runs on a node.

    Args:
        api: the URL of the API server.
        token: of an account that may list pods.
        repository: where Prometheus finds the rules.
    """
    document = _fast("kubernetes", repository)
    (discovery,) = document["scrape_configs"][0]["kubernetes_sd_configs"]
    access = {"authorization": {"credentials": token}, "tls_config": {"insecure_skip_verify": True}}
    discovery |= {"api_server": api, **access}
    return document


def _fast(name: str, repository: Path) -> dict[str, Any]:
    text = (REPOSITORY / MONITORING / f"prometheus/{name}.yml").read_text("utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    document["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    document["rule_files"] = [f"{repository}/{MONITORING}/rules/*.yml"]
    return document


def values(server: Server, expression: str, *names: str) -> dict[tuple[str, ...], float]:
    """Return the values of an expression by labels of their samples."""
    return {
        tuple(sample.labels.get(name, "") for name in names): sample.value
        for sample in server.query(expression)
    }


def expect(server: Server, expression: str, names: Sequence[str], expected: object) -> None:
    """Wait until `values` are the expected ones: a pass may have begun before the last change."""

    def last() -> str:
        return f"{expression} is {expected}, and not {values(server, expression, *names)}"

    end = time.monotonic() + PATIENCE
    while values(server, expression, *names) != expected:
        assert time.monotonic() < end, last()
        time.sleep(0.1)


def own_labels(sample: Sample) -> Mapping[str, str]:
    """Return the labels that cdi-gen gave."""
    other = {*OF_TARGET, "__name__"}
    return {name: value for name, value in sample.labels.items() if name not in other}
