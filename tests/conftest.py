# SPDX-License-Identifier: Apache-2.0
"""What every test may use: the fake hosts, their inventories, and ``--update-golden``."""

from __future__ import annotations

import os
import signal
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from cdi_gen.inventory import Inventory
from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY, look_at

# Property tests: a few examples by day, the same each time, so that only a change makes a test fail;
# other ones in each `make nightly`, as many as a night has time for.
settings.register_profile("day", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("night", max_examples=2000, deadline=None)
settings.load_profile("day")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and some CI does; every program that a test starts and
    # then interrupts would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests fork. gRPC's own handlers of fork abort a child that closes descriptors, as programs do.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ["GRPC_VERBOSITY"] = "ERROR"

pytest_plugins = [
    "tests.fakehost.fixtures",
    "tests.lab.fixtures",
    "tests.lab.kubernetes.fixtures",
    "tests.left_running",
    "tests.own_mounts",
    "tests.required",
    "tests.telemetry.fixtures",
]


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests of each checkout their own temporary directory.

    Whenever pytest starts, it closes its directory, /tmp/pytest-of-USER, to other users. Tests of
    rootless containers open theirs, and must not have it closed by a run of another checkout.
    """
    if hasattr(config, "workerinput") or "PYTEST_DEBUG_TEMPROOT" in os.environ:
        return
    checkout = zlib.crc32(os.fsencode(REPOSITORY))
    directory = Path(tempfile.gettempdir(), f"cdi-gen-{os.getuid()}-{checkout:08x}")
    directory.mkdir(mode=0o755, exist_ok=True)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(directory)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="update specs/golden/ instead of comparing with it",
    )
    parser.addoption(
        "--update-engines",
        action="store_true",
        help="write docs/engines.json and docs/engines.md from what the engines do",
    )
    parser.addoption(
        "--update-kubernetes",
        action="store_true",
        help="write docs/cluster-tests.json and docs/cluster-tests.md from what tests/kubernetes do",
    )


FIXTURES_OF = {
    "network": {"nvidia_program", "prometheus_of", "node_exporter_program"}
    | {"grafana_schema", "operator_types"},
    "host": {"host", "own_host"},
    "engine": {"lab_of", "image_archives", "zoo_archives"},
    "kubernetes": {"enter_node", "enter_standalone", "enter_cluster", "charts"},
}
"""A test that uses one of the fixtures has the mark, so that no tier runs it by mistake."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by what they use; leave out long runs that ``-m`` does not name."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        for mark, fixtures in FIXTURES_OF.items():
            if used & fixtures:
                item.add_marker(mark)
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("property")
    asked = str(config.getoption("markexpr"))
    left_out = [mark for mark in ("nightly", "engines", "kubernetes") if mark not in asked]
    long = {item for item in items if any(item.get_closest_marker(mark) for mark in left_out)}
    config.hook.pytest_deselected(items=[*long])
    items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def look(host: Callable[[str], FakeHost]) -> Callable[..., Inventory]:
    """Give the inventory of a named fake host; looked at once a session."""
    known: dict[object, Inventory] = {}

    def looked(name: str, **where: str | tuple[str, ...]) -> Inventory:
        key = (name, *sorted(where.items()))
        if key not in known:
            known[key] = look_at(host(name), **where)
        return known[key]

    return looked
