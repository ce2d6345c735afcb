# SPDX-License-Identifier: Apache-2.0
"""Which engine takes what: the table has sources, is in order, and is looked up downwards."""

from __future__ import annotations

import json
from itertools import groupby, pairwise

import pytest

import cdi_specs
from cdi_gen.cdi import consumers, versions


@pytest.mark.parametrize(
    ("asked", "found", "newest", "takes_groups"),
    [
        ("podman@4.3.1", "podman 4.3.0", "0.5.0", False),
        ("podman@4.9.3", "podman 4.7.0", "0.6.0", False),
        ("podman@4.9.3+ds1-1ubuntu0.2", "podman 4.7.0", "0.6.0", False),
        ("podman@5.0.3", "podman 4.7.0", "0.6.0", False),
        ("podman@5.1", "podman 5.1.0", "0.7.0", True),
        ("podman@5", "podman 4.7.0", "0.6.0", False),
        ("podman@5.4.2", "podman 5.2.0", "0.8.0", True),
        ("podman@99", "podman 5.5.0", "1.0.0", True),
        ("podman", "podman 5.5.0", "1.0.0", True),
        ("Podman@v4.3.1", "podman 4.3.0", "0.5.0", False),
        ("docker@26.1.5", "docker 26.1.0", "0.7.0", False),
        ("docker@28.5.2", "docker 28.1.0", "1.0.0", False),
        ("containerd@1.7.15", "containerd 1.7.12", "0.6.0", False),
        ("containerd@1.7.16", "containerd 1.7.16", "0.7.0", True),
        ("containerd@2.1.9", "containerd 2.1.0", "1.0.0", True),
        ("containerd@2.2.0", "containerd 2.1.0", "1.0.0", True),
        ("containerd@2.3.7", "containerd 2.2.1", "1.1.0", True),
        ("crio@1.30.4", "crio 1.30.0", "0.7.0", False),
        ("CRI-O@1.30.4", "crio 1.30.0", "0.7.0", False),
    ],
)
def test_a_release_behaves_as_the_last_known_one_before_it(
    asked: str, found: str, newest: str, takes_groups: bool
) -> None:
    consumer = consumers.find(asked)
    assert str(consumer) == found
    assert consumer.newest_cdi_version == newest
    assert consumer.takes_additional_gids is takes_groups
    assert consumer.accepts(newest)
    assert not consumer.accepts("1.1.1")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("", "unknown engine ''; the engines are podman, docker, containerd"),
        ("lxc@6", "unknown engine 'lxc'"),
        ("@4.9", "unknown engine ''"),
        ("podman@", "'' is not a version"),
        ("podman@latest", "'latest' is not a version"),
        ("podman@4.9.3.1", "'4.9.3.1' is not a version"),
        ("podman@4.٣", "is not a version"),
        ("podman@3.4.4", "podman 3.4.4 is too old: the oldest release is 4.1.0"),
        ("docker@20.10.24", "the oldest release is 25.0.0"),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_known(asked: str, message: str) -> None:
    with pytest.raises(consumers.UnknownConsumerError) as error:
        consumers.find(asked)
    assert message in str(error.value)
    assert isinstance(error.value, ValueError)


def test_the_table_is_in_order_and_every_fact_has_a_source() -> None:
    sources = json.loads(cdi_specs.read_text("engines.json"))["sources"]
    used = set()
    for _, rows in groupby(consumers.consumers(), key=lambda consumer: consumer.name):
        for older, newer in pairwise(rows):
            assert consumers._numbers(older.version) < consumers._numbers(newer.version)
            assert older.accepts("0.5.0") <= newer.accepts("0.5.0")
    for consumer in consumers.consumers():
        assert versions.is_known(consumer.newest_cdi_version)
        assert consumer.source
        assert consumer.additional_gids in {"taken", "dropped", "refused", "untested"}
        assert (consumer.additional_gids == "refused") == (not consumer.accepts("0.7.0"))
        used.update(consumer.source.split("; "))
    assert used < set(sources.values()), "the other sources are of engines' facts"


def test_the_first_release_that_reads_a_version() -> None:
    assert "podman 5.1.0" in map(str, consumers.first_to_accept("0.7.0"))
    assert {str(consumer) for consumer in consumers.first_to_accept("1.1.0")} == {
        "containerd 2.2.1",
        "docker 29.2.0",
    }
