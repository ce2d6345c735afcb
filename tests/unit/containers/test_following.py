# SPDX-License-Identifier: Apache-2.0
"""When a container that was looked at is looked at again; see also tests/property."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.containers.device_nodes import FoundNode
from cdi_gen.containers.discovery import discover
from cdi_gen.containers.following import AGAIN, AGAIN_WITH_GPUS, YOUNG, Following
from tests.fakehost.processes import Processes

ID = 64 * "a"
GPU = FoundNode("/dev/nvidia0", "c", 195, 0)
TICKS = os.sysconf("SC_CLK_TCK")


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


@pytest.fixture
def following(tmp_path: Path, clock: Clock) -> Following:
    return Following(str(tmp_path), clock)


def test_device_rules_of_a_container_with_gpus_follow_its_group(
    processes: Processes, following: Following
) -> None:
    """systemd and `docker update` may move it; where its id is, there is its engine's name."""
    processes.start(20, namespace=processes.namespace(("nvidia0", 195, 0)))
    assert following.discover([GPU]).containers[0].origin.engine == ""
    processes.move(20, f"/docker/{ID}")
    (container,) = following.discover([GPU]).containers
    assert (container.origin.engine, container.first.groups) == ("docker", (("", f"/docker/{ID}"),))


def test_young_container_is_looked_at_until_its_engine_has_written_its_state(
    tmp_path: Path, processes: Processes, following: Following, clock: Clock
) -> None:
    start = int(clock.now * TICKS)
    processes.start(20, namespace=processes.namespace(), start_time=start)
    assert following.discover().containers[0].origin.engine == ""
    clock.now += YOUNG - 1
    state = {"init_process_pid": 20, "init_process_start": start, "bundle": "/b"}
    (tmp_path / "run/runc/web").mkdir(parents=True)
    (tmp_path / "run/runc/web/state.json").write_text(json.dumps(state))
    assert following.discover().containers[0].origin.id == "web"


def test_container_that_is_being_started_has_the_hosts_root_at_first(
    tmp_path: Path, processes: Processes, following: Following, clock: Clock
) -> None:
    """runc enters a mount namespace, and then changes the root in it."""
    namespace = processes.namespace()
    processes.start(20, namespace=namespace, start_time=int(clock.now * TICKS))
    table = tmp_path / "proc/20/mountinfo"
    of_container = table.read_text()
    table.write_text((tmp_path / "proc/1/mountinfo").read_text())
    discovery = following.discover()
    assert [process.pid for process in discovery.others] == [1, 20]
    table.write_text(of_container)
    discovery = following.discover()
    assert [container.first.pid for container in discovery.containers] == [20]


@pytest.mark.parametrize(
    ("nodes", "seconds"), [((("nvidia0", 195, 0),), AGAIN_WITH_GPUS), ((), AGAIN)], ids=str
)
def test_new_node_is_seen_after_a_while(
    processes: Processes,
    following: Following,
    clock: Clock,
    nodes: tuple[tuple[str, int, int], ...],
    seconds: float,
) -> None:
    namespace = processes.namespace(*nodes)
    processes.start(20, namespace=namespace)
    following.discover([GPU])
    processes.make_node(namespace, "nvidia1", 195, 1)
    clock.now += seconds
    (container,) = following.discover([GPU]).containers
    assert [node.minor for node in container.nodes] == [*range(len(nodes)), 1]


def test_other_name_of_a_container_is_seen_after_a_while(
    tmp_path: Path, processes: Processes, following: Following, clock: Clock
) -> None:
    """After `docker rename`; other engines have no such command."""
    file = tmp_path / f"var/lib/docker/containers/{ID}/config.v2.json"
    file.parent.mkdir(parents=True)
    processes.start(20, namespace=processes.namespace(), group=f"/docker/{ID}")
    names = []
    for name in ("/one", "/two"):
        file.write_text(json.dumps({"Name": name}))
        names.append(following.discover().containers[0].origin.name)
        clock.now += AGAIN
    assert names == ["one", "two"]


def test_nodes_of_another_driver_are_looked_for_at_once(
    processes: Processes, following: Following
) -> None:
    namespace = processes.namespace()
    processes.start(20, namespace=namespace)
    following.discover([GPU])
    processes.make_node(namespace, "nvidia0", 195, 0)
    (container,) = following.discover([GPU, FoundNode("/dev/nvidia1", "c", 195, 1)]).containers
    assert len(container.nodes) == 1


def test_container_that_does_not_change_is_the_same_object(
    processes: Processes, following: Following
) -> None:
    processes.start(20, namespace=processes.namespace())
    first = following.discover().containers
    assert following.discover().containers[0] is first[0]


_opened: list[str] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


@pytest.fixture(scope="module")
def audit() -> None:
    sys.addaudithook(_note)


@pytest.fixture
def opened(audit: None) -> Callable[[Callable[[], object]], list[str]]:
    """Return the files that a call opens, without the control groups of this machine."""

    def of(call: Callable[[], object]) -> list[str]:
        global _opened  # noqa: PLW0603 - an audit hook cannot be removed
        _opened = []
        call()
        paths, _opened = _opened, None
        return [path for path in paths if not path.startswith("/sys/fs/cgroup")]

    return of


def test_what_has_not_changed_is_not_opened(
    tmp_path: Path,
    processes: Processes,
    following: Following,
    clock: Clock,
    opened: Callable[[Callable[[], object]], list[str]],
) -> None:
    """The bar of the service: 200 containers cost a fresh look 0.15 s."""
    for first in range(100, 400, 10):
        namespace = processes.namespace()
        for pid in range(first, first + 5):
            processes.start(pid, namespace=namespace, group=f"/docker/{first:064x}")
    following.discover()
    clock.now += 1
    assert opened(following.discover) == []
    assert len(opened(lambda: discover(str(tmp_path)))) > 30 * 5
    # Those that are due are not all due at once.
    clock.now += AGAIN * 0.75
    assert 30 < len(opened(following.discover)) < 0.9 * len(opened(lambda: discover(str(tmp_path))))


def test_descriptors_and_records_of_ended_containers_are_released(
    processes: Processes, following: Following
) -> None:
    following.discover()
    before = len(os.listdir("/proc/self/fd"))
    for pid in range(1000, 1050):
        processes.start(pid, namespace=processes.namespace(("nvidia0", 195, 0)))
        assert len(following.discover([GPU]).containers) == 1
        processes.end(pid)
    assert following.discover([GPU]).containers == ()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(following._processes) == 1
    assert following._namespaces == {}


def test_containers_that_a_user_creates_at_once_are_examined_one_after_the_other(
    processes: Processes,
    following: Following,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cdi_gen.containers.following.MAX_EXAMINED", 1)
    monkeypatch.setattr("cdi_gen.containers.following.MAX_NEW", 2)
    for pid in range(20, 28):
        start = int(clock.now * TICKS) if pid < 24 else None  # some are young, and always due
        processes.start(pid, namespace=processes.namespace(), start_time=start)
    looks = [following.discover() for _ in range(4)]
    assert [len(look.containers) for look in looks] == [3, 5, 7, 8]
    assert [len(look.unseen) for look in looks] == [1, 1, 1, 0]
