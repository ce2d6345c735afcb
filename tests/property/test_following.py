# SPDX-License-Identifier: Apache-2.0
"""Looking again gives the same containers as looking for the first time, whatever happened.

Nothing is young here: processes started long before the clock, so only a change can make
`Following` look again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cdi_gen.containers.device_nodes import FoundNode
from cdi_gen.containers.discovery import Discovery, discover
from cdi_gen.containers.following import AGAIN, Following
from tests.fakehost.processes import HOST_NAMESPACE, Processes

PIDS = st.integers(2, 9)
"""Few, so that ended processes' numbers are used again."""
NAMES = st.sampled_from(["sh", "python3", "conmon", "nvidia-cuda-mps"])
GROUPS = st.sampled_from(
    ["/", f"/docker/{64 * 'a'}", f"/system.slice/web.service/libpod-payload-{64 * 'b'}"]
)
GPUS = tuple(FoundNode(f"/dev/nvidia{number}", "c", 195, number) for number in range(2))
NODES = st.lists(
    st.sampled_from([("nvidia0", 195, 0), ("nvidia1", 195, 1), ("fb0", 29, 0)]), unique=True
)


class Host(RuleBasedStateMachine):
    """A host whose processes start, change and end."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.processes = Processes(self.root)
        self.time = 1e6
        self.following = Following(str(self.root), clock=lambda: self.time)

    def teardown(self) -> None:
        self.folder.cleanup()

    @property
    def others(self) -> list[int]:
        return sorted(pid for pid in self.processes.running if pid != 1)

    @initialize()
    def look_first(self) -> None:
        self.compare()

    @rule(pid=PIDS, parent=PIDS, name=NAMES, group=GROUPS)
    def start_on_host(self, pid: int, parent: int, name: str, group: str) -> None:
        self._start(pid, parent, name, group, HOST_NAMESPACE)

    @rule(pid=PIDS, parent=PIDS, name=NAMES, group=GROUPS, nodes=NODES)
    def start_container(
        self, pid: int, parent: int, name: str, group: str, nodes: list[tuple[str, int, int]]
    ) -> None:
        if pid not in self.processes.running:
            self._start(pid, parent, name, group, self.processes.namespace(*nodes))

    @precondition(lambda self: self.others)
    @rule(pid=PIDS, data=st.data(), name=NAMES)
    def fork(self, pid: int, data: st.DataObject, name: str) -> None:
        parent = data.draw(st.sampled_from(self.others))
        self._start(pid, parent, name, "/", self.processes.running[parent])

    @precondition(lambda self: self.others)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.processes.end(data.draw(st.sampled_from(self.others)))

    @precondition(lambda self: self.others)
    @rule(data=st.data(), name=NAMES, group=GROUPS, nodes=NODES)
    def replace_by_a_container_with_its_number(
        self, data: st.DataObject, name: str, group: str, nodes: list[tuple[str, int, int]]
    ) -> None:
        pid = data.draw(st.sampled_from(self.others))
        self.processes.end(pid)
        self._start(pid, 1, name, group, self.processes.namespace(*nodes))

    @precondition(lambda self: self.others)
    @rule(data=st.data(), nodes=NODES)
    def enter_a_new_namespace(self, data: st.DataObject, nodes: list[tuple[str, int, int]]) -> None:
        pid = data.draw(st.sampled_from(self.others))
        self.processes.enter(pid, self.processes.namespace(*nodes))

    @precondition(lambda self: self.others)
    @rule(data=st.data())
    def leave_the_container(self, data: st.DataObject) -> None:
        self.processes.enter(data.draw(st.sampled_from(self.others)), HOST_NAMESPACE)

    @precondition(lambda self: self.others)
    @rule(data=st.data(), name=NAMES, group=GROUPS)
    def change_what_is_looked_at_later(self, data: st.DataObject, name: str, group: str) -> None:
        pid = data.draw(st.sampled_from(self.others))
        self.processes.change(pid, name=name, parent=1)
        self.processes.move(pid, group)
        namespace = self.processes.running[pid]
        if namespace != HOST_NAMESPACE:
            self.processes.toggle_node(namespace, "nvidia1", 195, 1)
        self.compare(are_late_changes=True)
        self.time += AGAIN

    @invariant()
    def compare(self, *, are_late_changes: bool = False) -> None:
        fresh = discover(str(self.root), GPUS)
        again = self.following.discover(GPUS)
        if are_late_changes:
            assert identities(again) == identities(fresh)
        else:
            assert again == fresh
        # What it remembers is bounded by what runs.
        assert len(self.following._processes) == len(self.processes.running)
        assert len(self.following._namespaces) <= len(set(self.processes.running.values()))

    def _start(self, pid: int, parent: int, name: str, group: str, namespace: int) -> None:
        if pid in self.processes.running:
            return
        parent = parent if parent in self.processes.running else 1
        self.processes.start(pid, name=name, parent=parent, group=group, namespace=namespace)


def identities(discovery: Discovery) -> object:
    """Return which processes are in which container."""
    return (
        [[process.pid for process in container.processes] for container in discovery.containers],
        sorted(process.pid for process in discovery.others),
    )


Host.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestFollowing = Host.TestCase
