# SPDX-License-Identifier: Apache-2.0
"""Snapshots of fake hosts: what NVML measures, joined with the containers in a fake /proc."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from cdi_gen.containers import device_nodes
from cdi_gen.containers.device_nodes import FoundNode
from cdi_gen.containers.mounts import Mount
from cdi_gen.host import Where
from cdi_gen.metrics.collection import Collector
from cdi_gen.metrics.gpus import Gpus
from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.telemetry.model import GpuReading, MigReading, ProcessReading, Reading
from tests.fakehost.hosts import FakeHost
from tests.fakehost.kernel import instance_minor
from tests.fakehost.processes import Processes

ID = 64 * "a"
GIB = 1 << 30


class Told:
    """Telemetry that gives the reading it was told, and has no GPU to ask."""

    def __init__(self, *gpus: GpuReading, driver: str = "550.163.01") -> None:
        self.reading = Reading(time=0, seconds=0, driver_version=driver, gpus=gpus)

    def read(self) -> Reading:
        """Return the reading."""
        return self.reading


def gpus_of(host: FakeHost) -> tuple[GpuReading, ...]:
    """Return NVML's answers about the GPUs of a host, without processes."""
    return tuple(
        GpuReading(
            index=str(number),
            uuid=gpu.uuid,
            pci_address=gpu.pci_address,
            model=gpu.model.name,
            quantities={},
            minor=gpu.minor,
            processes=(),
        )
        for number, gpu in enumerate(host.kernel.gpus)
    )


def process(pid: int, memory: int = GIB) -> ProcessReading:
    return ProcessReading(pid=pid, memory=memory, utilization=0.5)


def collected(host: FakeHost, *gpus: GpuReading) -> Snapshot:
    return Collector(Where(host_root=str(host.root)), Told(*gpus)).collect()


Hosts = Callable[[str], FakeHost]


def test_containers_processes_and_the_host(own_host: Hosts) -> None:
    host = own_host("550-8gpu")
    processes = Processes(host.root)
    group = f"/system.slice/web.service/libpod-payload-{ID}"
    web = processes.namespace(("nvidia2", 195, 2), ("nvidiactl", 195, 255))
    processes.start(20, namespace=web, group=group)
    processes.start(21, namespace=web, group=group, parent=20)
    processes.start(30, namespace=processes.namespace())
    processes.start(9)
    gpus = list(gpus_of(host))
    gpus[2] = replace(gpus[2], processes=(process(21), process(9, 2 * GIB), process(444)))
    snapshot = collected(host, *gpus)
    (holder,) = snapshot.holders
    origin = holder.container.origin
    assert (origin.engine, origin.id, origin.unit) == ("podman", ID, "web.service")
    assert [device.index for device in holder.devices] == ["2"]
    (use,) = snapshot.uses
    assert (use.holder, use.device) == (holder, "2")
    assert (use.processes, use.memory, use.utilization) == (1, GIB, 0.5)
    assert snapshot.containers == 2
    assert {use.device: use.memory for use in snapshot.host_uses if use.processes} == {"2": 2 * GIB}
    assert snapshot.unseen == ()


def test_container_whose_process_uses_a_gpu_without_its_node(own_host: Hosts) -> None:
    host = own_host("550-1gpu")
    processes = Processes(host.root)
    processes.start(20, namespace=processes.namespace())
    (gpu,) = gpus_of(host)
    snapshot = collected(host, replace(gpu, processes=(process(20),)))
    assert snapshot.holders[0].devices == ()
    assert [(use.device, use.processes) for use in snapshot.uses] == [("0", 1)]


def test_mig_devices_are_known_by_the_kernels_numbers(own_host: Hosts) -> None:
    """NVML is asked by the telemetry only; the nodes of instances are in procfs."""
    host = own_host("550-mig56")
    gpu = host.kernel.gpus[1]
    instance = gpu.mig[3]
    mig = MigReading(
        index="1:3",
        uuid="MIG-3",
        profile="1g.10gb",
        gpu_instance=instance.gi,
        compute_instance=instance.ci,
        quantities={},
        processes=(ProcessReading(pid=20, memory=GIB),),
    )
    processes = Processes(host.root)
    caps = [instance_minor(gpu.minor, instance.gi, ci) for ci in (None, instance.ci)]
    major = host.kernel.caps_major
    nodes = [(f"nvidia-caps/nvidia-cap{minor}", major, minor) for minor in caps]
    processes.start(20, namespace=processes.namespace(("nvidia1", 195, gpu.minor), *nodes))
    gpus = list(gpus_of(host))
    gpus[1] = replace(gpus[1], mig_enabled=True, mig=(mig,))
    snapshot = collected(host, *gpus)
    (held,) = snapshot.holders[0].devices
    assert (held.index, held.uuid, held.profile) == ("1:3", "MIG-3", "1g.10gb")
    (use,) = snapshot.uses
    assert (use.device, use.memory, use.utilization) == ("1:3", GIB, None)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOTCONN])
def test_directory_that_cannot_be_read_hides_no_container(
    own_host: Hosts, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    host = own_host("550-8gpu")
    processes = Processes(host.root)
    processes.start(20, namespace=processes.namespace(("nvidia2", 195, 2)))
    processes.start(30, namespace=processes.namespace(("nvidia3", 195, 3)))
    read = device_nodes.nodes
    answers = iter([OSError(number, os.strerror(number))])

    def failing(root: int, mounts: list[Mount]) -> Iterator[FoundNode]:
        for error in answers:
            raise error
        return read(root, mounts)

    monkeypatch.setattr(device_nodes, "nodes", failing)
    gpus = list(gpus_of(host))
    gpus[2] = replace(gpus[2], processes=(process(20),))
    first, second = collected(host, *gpus).holders
    assert first.container.unseen == (f"its /dev: {os.strerror(number)}",)
    assert [device.index for device in second.devices] == ["3"]


def test_container_in_a_container_has_the_outer_ones_unit(own_host: Hosts) -> None:
    host = own_host("550-1gpu")
    processes = Processes(host.root)
    group = f"/system.slice/dind.service/libpod-payload-{ID}"
    processes.start(20, namespace=processes.namespace(), group=group)
    inner = processes.namespace(("nvidia0", 195, 0))
    processes.start(30, namespace=inner, parent=20, group=f"{group}/docker/{64 * 'b'}")
    (holder,) = collected(host, *gpus_of(host)).holders
    assert holder.container.within == 20
    assert (holder.container.origin.engine, holder.container.origin.unit) == (
        "docker",
        "dind.service",
    )


@pytest.mark.parametrize(
    ("numbers", "is_known"), [("NSpid:\t77\n", True), ("NSpid:\t9077\t77\n", False), ("", False)]
)
def test_processes_of_another_pid_namespace(
    own_host: Hosts, numbers: str, *, is_known: bool
) -> None:
    """The host's /proc is mounted into a pod without hostPID: numbers do not mean the same."""
    host = own_host("550-1gpu")
    processes = Processes(host.root)
    (host.root / "proc/self/status").write_text(f"Name:\tpython\n{numbers}")
    processes.start(20, namespace=processes.namespace(("nvidia0", 195, 0)))
    (gpu,) = gpus_of(host)
    snapshot = collected(host, replace(gpu, processes=(process(20),)))
    (use,) = snapshot.uses
    assert (use.processes, use.memory) == ((1, GIB) if is_known else (None, None))
    assert bool(snapshot.host_uses) is is_known
    assert any("hostPID" in text for text in snapshot.unseen) is not is_known


def test_driver_that_comes_and_goes(own_host: Hosts) -> None:
    host = own_host("550-1gpu")
    processes = Processes(host.root)
    processes.start(20, namespace=processes.namespace(("nvidia0", 195, 0)))
    told = Told(*gpus_of(host))
    collector = Collector(Where(host_root=str(host.root)), told)
    version = host.root / "proc/driver/nvidia/version"
    text = version.read_text()
    version.unlink()
    absent = collector.collect()
    assert (absent.holders, absent.containers) == ((), 1)
    assert any("no NVIDIA driver" in text for text in absent.unseen)
    version.write_text(text)
    assert len(collector.collect().holders) == 1


def test_gpus_are_searched_for_only_when_the_host_has_changed(own_host: Hosts) -> None:
    host = own_host("550-8gpu")
    told = Told(*gpus_of(host))
    gpus = Gpus(Where(host_root=str(host.root)))
    first = gpus.inventory(told.reading)
    assert first is not None
    assert gpus.inventory(replace(told.reading, time=1)) is first
    fewer = gpus.inventory(replace(told.reading, gpus=told.reading.gpus[:7]))
    assert fewer is not first
    (host.root / "dev/nvidia7").unlink()
    remaining = gpus.inventory(replace(told.reading, gpus=told.reading.gpus[:7]))
    assert remaining is not None
    assert [gpu.index for gpu in remaining.gpus] == [*range(7)]


def test_process_that_proc_does_not_show(own_host: Hosts) -> None:
    """It exists, and hidepid= hides it; one that has ended is not missed."""
    host = own_host("550-1gpu")
    Processes(host.root)
    (gpu,) = gpus_of(host)
    ended = subprocess.Popen(["true"])
    ended.wait()
    seen = (process(os.getpid()), process(ended.pid))
    snapshot = collected(host, replace(gpu, processes=seen))
    assert snapshot.unseen == ("1 processes that use GPUs: /proc does not show them",)
