# SPDX-License-Identifier: Apache-2.0
"""What a container does with a device: idle is 0, unknown is None, and nothing is guessed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdi_gen.containers.model import HeldDevice, Holder, Process
from cdi_gen.metrics.attribution import MPS_SERVER, Users, attribute
from cdi_gen.metrics.snapshot import ContainerUse, HostUse
from cdi_gen.telemetry.model import ProcessReading, Reading
from tests.unit.metrics import snapshots
from tests.unit.metrics.snapshots import MODEL, gpu, mig_device, process, reading, uuid


def used(pid: int, memory: int | None = 100, share: float | None = 0.25) -> ProcessReading:
    return ProcessReading(
        pid=pid,
        memory=memory,
        utilization=share,
        memory_utilization=share,
        encoder_utilization=share,
        decoder_utilization=share,
    )


def device(index: str = "0", identifier: str = "") -> HeldDevice:
    return HeldDevice(index=index, uuid=identifier or uuid(int(index)), model=MODEL)


def holder(number: int, *pids: int, devices: tuple[HeldDevice, ...] = (device(),)) -> Holder:
    return Holder(container=snapshots.container(number, pids=pids), devices=devices)


def uses(
    measured: Reading, *holders: Holder, others: tuple[Process, ...] = (), **options: Any
) -> tuple[ContainerUse, ...]:
    return attribute(Users(measured, **options), holders, others).uses


def on_host(measured: Reading, *others: Process, **options: Any) -> tuple[HostUse, ...]:
    return attribute(Users(measured, **options), (), others).host_uses


def facts(use: ContainerUse) -> tuple[Any, ...]:
    return use.processes, use.memory, use.utilization


UNKNOWN = (None, None, None)


def test_each_container_has_its_own_processes() -> None:
    measured = reading(gpu(processes=(used(11), used(12, 50, 0.5), used(21, 7, 0.125))))
    one, two = uses(measured, holder(1, 10, 11, 12), holder(2, 20, 21))
    assert (one.device, facts(one)) == ("0", (2, 150, 0.75))
    assert (two.device, facts(two)) == ("0", (1, 7, 0.125))
    assert (one.memory_utilization, one.encoder_utilization, one.decoder_utilization) == (0.75,) * 3


def test_idle_container_uses_nothing() -> None:
    (use,) = uses(reading(gpu()), holder(1, 10))
    assert facts(use) == (0, 0, 0)


def test_device_without_a_list_of_processes_is_unknown() -> None:
    measured = reading(gpu(processes=None))
    assert facts(uses(measured, holder(1, 10))[0]) == UNKNOWN
    assert on_host(measured, process(9)) == ()


def test_one_unknown_value_makes_the_sum_unknown() -> None:
    measured = reading(gpu(processes=(used(11), used(12, None, None))))
    (use,) = uses(measured, holder(1, 11, 12))
    assert facts(use) == (2, None, None)


def test_shares_are_at_most_the_whole() -> None:
    measured = reading(gpu(processes=(used(11, 1, 0.75), used(12, 1, 0.5))))
    assert uses(measured, holder(1, 11, 12))[0].utilization == 1


def test_container_has_a_value_for_each_of_its_devices() -> None:
    measured = reading(gpu(0), gpu(1, processes=(used(11),)), gpu(2))
    both = holder(1, 11, devices=(device("0"), device("1")))
    assert [(use.device, use.processes) for use in uses(measured, both)] == [("0", 0), ("1", 1)]


def test_device_is_known_by_its_uuid() -> None:
    """NVML does not count a GPU that it cannot open, so its indices may be others."""
    measured = reading(replace(gpu(0, processes=(used(11),)), uuid=uuid(5)))
    (use,) = uses(measured, holder(1, 11, devices=(device("5"),)))
    assert (use.device, use.processes) == ("0", 1)
    assert uses(reading(gpu()), holder(1, 10, devices=(device("0", uuid(5)),))) == ()


def test_process_without_a_node_is_counted_where_it_is() -> None:
    """Its container's /dev cannot be seen, or the node was removed after it was opened."""
    measured = reading(gpu(processes=(used(11),)))
    (use,) = uses(measured, holder(1, 11, devices=()))
    assert facts(use) == (1, 100, 0.25)


def test_process_that_nvml_lists_twice_counts_once() -> None:
    measured = reading(gpu(processes=(used(11), used(11))))
    assert facts(uses(measured, holder(1, 11))[0]) == (1, 100, 0.25)


def test_processes_of_the_host() -> None:
    measured = reading(gpu(0, processes=(used(9), used(11))), gpu(1))
    first, second = on_host(measured, process(9), process(8))
    assert first == HostUse(device="0", processes=1, memory=100, utilization=0.25)
    assert second == HostUse(device="1", processes=0, memory=0, utilization=0)


def test_process_that_has_ended_is_of_nobody() -> None:
    measured = reading(gpu(processes=(used(77),)))
    users = Users(measured)
    attribution = attribute(users, (holder(1, 10),), (process(9),))
    assert facts(attribution.uses[0]) == (0, 0, 0)
    assert attribution.host_uses[0].processes == 0
    assert users.unknown((process(9), process(10))) == {77}


def test_process_that_started_after_the_pass_only_has_the_number() -> None:
    measured = reading(gpu(processes=(used(11),)))
    one = holder(1, 11)  # started at 110
    assert uses(measured, one, latest_start=110)[0].processes == 1
    assert uses(measured, one, latest_start=109)[0].processes == 0
    assert not Users(measured, latest_start=109).are_in(one.container)
    assert on_host(measured, process(11), latest_start=109)[0].processes == 0


def test_numbers_of_another_namespace_are_never_attributed() -> None:
    measured = reading(gpu(processes=(used(11),)))
    assert facts(uses(measured, holder(1, 11), is_foreign=True)[0]) == UNKNOWN
    assert not Users(measured, is_foreign=True).are_in(holder(1, 11).container)
    assert on_host(measured, process(11), is_foreign=True) == ()


def test_nested_container_is_counted_once() -> None:
    """A process of a container in a container is in the inner one only."""
    outer = holder(1, 10, 11)
    inner = holder(2, 20)
    nested = replace(inner, container=replace(inner.container, within=10))
    measured = reading(gpu(processes=(used(11, 1), used(20, 2))))
    assert [use.memory for use in uses(measured, outer, nested)] == [1, 2]


def test_time_slices_of_one_gpu() -> None:
    """Replicas of a device plugin are the same GPU in several containers."""
    measured = reading(gpu(processes=(used(11, 10, 0.5), used(21, 20, 0.25))))
    shared = uses(measured, holder(1, 11), holder(2, 21), holder(3, 31))
    assert [facts(use) for use in shared] == [(1, 10, 0.5), (1, 20, 0.25), (0, 0, 0)]


@pytest.mark.parametrize("server_is_in_container", [False, True])
def test_share_of_an_mps_client_is_unknown(*, server_is_in_container: bool) -> None:
    """NVML counts the time slices of all clients for the server, or for any of them."""
    measured = reading(gpu(0, processes=(used(5, 30), used(11, 10))), gpu(1, processes=(used(12),)))
    server = replace(process(5), name=MPS_SERVER)
    client = holder(1, 11, 12, devices=(device("0"), device("1")))
    holders = [client]
    others: tuple[Process, ...] = (server,)
    if server_is_in_container:
        daemon = holder(2, 5)
        processes = (server,)
        holders.append(replace(daemon, container=replace(daemon.container, processes=processes)))
        others = ()
    by_device = {
        use.device: facts(use)
        for use in uses(measured, *holders, others=others)
        if use.holder is client
    }
    assert by_device == {"0": (1, 10, None), "1": (1, 100, 0.25)}


def test_mig_devices() -> None:
    """NVML tells the memory of their processes, not the time; so idle is unknown as well."""
    divided = gpu(
        mig_enabled=True,
        mig=(mig_device(0, 0, "1g.10gb", processes=(used(11, 5, None),)), mig_device(0, 1, "1g.10gb")),
    )  # fmt: skip
    holds = [device("0:0", snapshots.mig_uuid(0, 0)), device("0:1", snapshots.mig_uuid(0, 1))]
    one, two = (holder(number, number * 10 + 1, devices=(holds[number - 1],)) for number in (1, 2))
    busy, idle = uses(reading(divided), one, two)
    assert (busy.device, *facts(busy)) == ("0:0", 1, 5, None)
    assert (idle.device, *facts(idle)) == ("0:1", 0, 0, None)
    assert [use.device for use in on_host(reading(divided))] == ["0:0", "0:1"]


def test_gpu_that_cannot_be_measured() -> None:
    lost = gpu(fault="GPU is lost", quantities={}, processes=None)
    assert facts(uses(reading(lost), holder(1, 11))[0]) == UNKNOWN
    assert uses(reading(error="no driver"), holder(1, 11)) == ()


def test_host_of_which_a_part_is_seen() -> None:
    """In a container, a process that is not seen may be the host's."""
    measured = reading(gpu(0, processes=(used(9),)), gpu(1))
    partial = attribute(Users(measured), (), (process(9),), is_partial=True)
    assert [(use.device, use.processes) for use in partial.host_uses] == [("0", 1)]
