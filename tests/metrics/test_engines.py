# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes `cdi-gen metrics` beside containers of every engine.

NVML is a mock with GPUs whose values the test sets. What Prometheus answers is compared with them
and with what was started.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_values import set_typical
from tests.lab import prometheus
from tests.lab.engines import Lab
from tests.lab.prometheus import Server
from tests.metrics import dashboard, engine_host
from tests.metrics.engine_host import ADDRESS, EngineHost, Running
from tests.metrics.scraping import configuration, expect, own_labels

MIB = 1 << 20
GPUS = 8
FAMILY = "cdi_gen_container_gpu_"
SHARED, UNUSED = "0", "7"
"""The GPU of two containers, and that of none."""

NOT_HERE = {"Devices for pods", "NVLink"}
"""Panels of a cluster, and of GPUs with NVLink."""


@pytest.mark.parametrize(
    ("root", "groups", "newer_dockerd"),
    [
        ("trixie-systemd", "v2", False),
        pytest.param("trixie-systemd", "v1", False, marks=pytest.mark.engines),
        pytest.param("bookworm-engines", "v1", False, marks=pytest.mark.engines),
        pytest.param("sid-engines", "v2", False, marks=pytest.mark.engines),
        # Since Docker 29, --gpus is of CDI, and the prestart hook does not run.
        pytest.param("sid-engines", "v2", True, marks=pytest.mark.engines),
    ],
)
def test_containers_of_every_engine(
    root: str,
    groups: Literal["v1", "v2"],
    newer_dockerd: bool,
    request: pytest.FixtureRequest,
    lab_of: Callable[[str], Lab],
    own_host: Callable[[str], FakeHost],
    image_archives: dict[str, Path],
    prometheus_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """One host for all of it: to start the engines takes the longest."""
    prometheus_of(prometheus.NEWEST)
    programs = [request.getfixturevalue("dockerd")] if newer_dockerd else []
    fake, images = own_host("550-8gpu"), image_archives["debian"]
    with engine_host.enter(lab_of(root), fake, images, tmp_path, *programs, cgroup=groups) as host:
        containers = engine_host.all_engines(host)
        tell(host, containers)
        service = host.metrics()
        host.values.run(UNUSED, service.pid, memory=300 * MIB, sm=5)
        scraped = configuration(ADDRESS, repository=engine_host.SOURCES)
        with prometheus.in_lab(host.inside, scraped) as server:
            server.wait_for(f'cdi_gen_host_gpu_processes{{gpu="{UNUSED}"}} == 1')
            server.wait_for(f"count({FAMILY}utilization_ratio) == {len(containers)}")
            each_container_has_its_series(server, fake, containers)
            values_are_those_of_nvml(server, containers)
            devices_have_the_container_that_holds_them_alone(server, containers)
            values_move(server, host, containers)
            an_xid_is_counted_and_fires_the_alert(server, host)
            no_panel_is_empty(server)
            a_gpu_that_hangs_delays_no_other(server, host)
            series_of_a_container_end_with_it(server, containers)


@pytest.mark.engines
def test_mig_devices_of_podman(
    lab_of: Callable[[str], Lab],
    own_host: Callable[[str], FakeHost],
    image_archives: dict[str, Path],
    prometheus_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """NVML tells the memory of processes on a MIG device, and nothing of their utilization."""
    prometheus_of(prometheus.NEWEST)
    fake, images = own_host("550-mig-mixed"), image_archives["debian"]
    with engine_host.enter(lab_of("trixie-systemd"), fake, images, tmp_path) as host:
        for gpu in ("0", "1"):
            set_typical(host.values, gpu)
        device = "1:3"
        host.values.set(device, memory_used=700 * MIB)
        container = host.podman("crun", 0, "part", "1", f"--device=nvidia.com/gpu={device}")
        host.values.run(device, container.pid, memory=600 * MIB)
        host.metrics()
        scraped = configuration(ADDRESS, repository=engine_host.SOURCES)
        with prometheus.in_lab(host.inside, scraped) as server:
            (sample,) = server.wait_for(f"{FAMILY}memory_used_bytes")
            (mig,) = [mig for mig in fake.kernel.gpus[1].mig if mig.gi == 9]
            assert own_labels(sample) == {
                **container.labels,
                "gpu": "1",
                "UUID": fake.kernel.gpus[1].uuid,
                "GPU_I_PROFILE": "1g.5gb",
                "GPU_I_ID": "9",
                "mig_uuid": mig.uuid,
            }
            assert sample.value == 600 * MIB
            names = ["gpu", "GPU_I_ID", "GPU_I_PROFILE"]
            of_container = {("1", "9", "1g.5gb"): 700}
            expect(server, 'DCGM_FI_DEV_FB_USED{container="part"}', names, of_container)
            assert not server.query(f"{FAMILY}utilization_ratio")
            container.end()
            server.wait_for_none(f"{FAMILY}held")


def tell(host: EngineHost, containers: list[Running]) -> None:
    """Have NVML tell what each container does; the last one is idle."""
    for number in range(GPUS):
        set_typical(host.values, str(number), number)
    for number, container in enumerate(containers[:-1]):
        memory, share = (number + 1) * 1000 * MIB, 10 + number
        host.values.run(container.gpu, container.pid, memory=memory, sm=share, memory_share=number)


def each_container_has_its_series(
    server: Server, fake: FakeHost, containers: list[Running]
) -> None:
    expected = {
        frozenset({**container.labels, "gpu": container.gpu, "UUID": uuid}.items())
        for container in containers
        for uuid in [fake.kernel.gpus[int(container.gpu)].uuid]
    }
    for end in ("held", "processes", "memory_used_bytes", "utilization_ratio"):
        samples = server.query(FAMILY + end)
        assert {frozenset(own_labels(sample).items()) for sample in samples} == expected, end
        assert {sample.labels["instance"] for sample in samples} == {"127.0.0.1"}
    images = {(item.labels["container_id"], item.image): 1 for item in containers}
    expect(server, "cdi_gen_container_info", ["container_id", "image"], images)


def expect_by_container(server: Server, end: str, expected: object) -> None:
    expect(server, FAMILY + end, ["container_id"], expected)


def values_are_those_of_nvml(server: Server, containers: list[Running]) -> None:
    identities = [(container.labels["container_id"],) for container in containers]
    busy = identities[:-1]
    idle = {identities[-1]: 0}
    expect_by_container(server, "processes", dict.fromkeys(busy, 1) | idle)
    memory = {identity: (number + 1) * 1000 * MIB for number, identity in enumerate(busy)}
    expect_by_container(server, "memory_used_bytes", memory | idle)
    shares = {identity: (10 + number) / 100 for number, identity in enumerate(busy)}
    expect_by_container(server, "utilization_ratio", pytest.approx(shares | idle))
    memory_shares = {identity: number / 100 for number, identity in enumerate(busy)}
    expect_by_container(server, "memory_utilization_ratio", pytest.approx(memory_shares | idle))
    of_host = {(UNUSED,): 300 * MIB}
    expect(server, "cdi_gen_host_gpu_memory_used_bytes > 0", ["gpu"], of_host)


def devices_have_the_container_that_holds_them_alone(
    server: Server, containers: list[Running]
) -> None:
    """As dcgm-exporter labels them; the GPU of two containers has no label of either."""
    alone = {
        container.gpu: container.labels.get("name", container.labels["container_id"])
        for container in containers
        if container.gpu != SHARED
    }
    names = {(str(number), alone.get(str(number), "")): 61 + number for number in range(GPUS)}
    expect(server, "DCGM_FI_DEV_GPU_TEMP", ["gpu", "container"], names)


def values_move(server: Server, host: EngineHost, containers: list[Running]) -> None:
    first = containers[0]
    host.values.set(first.gpu, temperature=83, power=650_500, memory_used=55_000 * MIB)
    host.values.run(first.gpu, first.pid, memory=54_321 * MIB, sm=99)
    gpu = f'{{gpu="{first.gpu}"}}'
    server.wait_for(f"DCGM_FI_DEV_GPU_TEMP{gpu} == 83")
    server.wait_for(f"DCGM_FI_DEV_POWER_USAGE{gpu} == 650.5")
    server.wait_for(f"DCGM_FI_DEV_FB_USED{gpu} == 55000")
    container = f'{{container_id="{first.labels["container_id"]}"}}'
    server.wait_for(f"{FAMILY}memory_used_bytes{container} == {54_321 * MIB}")
    server.wait_for(f"{FAMILY}utilization_ratio{container} == 0.99")
    host.values.end(first.gpu, first.pid)
    server.wait_for(f"{FAMILY}utilization_ratio{container} == 0")
    server.wait_for(f"{FAMILY}processes{container} == 0")


def an_xid_is_counted_and_fires_the_alert(server: Server, host: EngineHost) -> None:
    assert "CdiGenXidError" not in {alert["labels"]["alertname"] for alert in server.alerts()}
    host.values.raise_xid("5", 79)
    (sample,) = server.wait_for("DCGM_EXP_XID_ERRORS_TOTAL")
    assert (sample.labels["gpu"], sample.labels["xid"], sample.value) == ("5", "79", 1)
    assert sample.labels["container"] == "by-runc"
    (alert,) = server.wait_for_alert("CdiGenXidError")
    assert (alert["labels"]["gpu"], alert["labels"]["severity"]) == ("5", "critical")
    assert alert["annotations"]["summary"] == "Xid 79 on GPU 5 of 127.0.0.1"


def no_panel_is_empty(server: Server) -> None:
    for query in dashboard.queries():
        if query.panel not in NOT_HERE:
            samples = server.wait_for(query.expression)
            assert all(sample.value == sample.value for sample in samples), query


def a_gpu_that_hangs_delays_no_other(server: Server, host: EngineHost) -> None:
    host.values.hang("3")
    server.wait_for('cdi_gen_metrics_gpu_up{gpu="3"} == 0')
    server.wait_for_none('DCGM_FI_DEV_GPU_TEMP{gpu="3"}')
    server.wait_for('cdi_gen_metrics_gpu_timeouts_total{gpu="3"} > 0')
    host.values.set("4", temperature=44)
    server.wait_for('DCGM_FI_DEV_GPU_TEMP{gpu="4"} == 44')
    assert not server.query("up != 1")
    host.values.recover("3")
    server.wait_for('DCGM_FI_DEV_GPU_TEMP{gpu="3"}')


def series_of_a_container_end_with_it(server: Server, containers: list[Running]) -> None:
    for container in containers:
        container.end()
    server.wait_for_none(f"{FAMILY}held")
    server.wait_for_none(f"{FAMILY}memory_used_bytes")
    server.wait_for_none('DCGM_FI_DEV_GPU_TEMP{container!=""}')
    server.wait_for(f"count(DCGM_FI_DEV_GPU_TEMP) == {GPUS}")
