# SPDX-License-Identifier: Apache-2.0
"""The unit of ``cdi-gen metrics`` in a real systemd: its user, its rights, its watchdog."""

from __future__ import annotations

import re

import pytest

from tests.lab.cache import LabUnavailableError
from tests.lab.kubernetes import packages
from tests.systemd.conftest import PROGRAM, SUITES, BootHost, Host, until

pytestmark = [pytest.mark.engine, pytest.mark.host, pytest.mark.network]

UNIT = "cdi-gen-metrics.service"
ENVIRONMENT = (
    "CDI_GEN_METRICS_LISTEN=127.0.0.1:9400 unix:/run/cdi-gen-metrics/metrics.sock\n"
    "CDI_GEN_METRICS_INTERVAL=1s\n"
)
FILES = {
    "/usr/bin/cdi-gen": PROGRAM.replace("PYTHONPATH=", "PYTHONPATH=/opt/packages:"),
    "/etc/cdi-gen/metrics.env": ENVIRONMENT,
}
GET = (
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9400/metrics').read().decode())"
)
CONTAINER = (
    "mkdir -p /opt/box; systemd-run --quiet --unit=box --property=RootDirectory=/opt/box "
    "--property='BindReadOnlyPaths=/usr /lib /lib64 /bin' sleep infinity"
)
"""A process in a mount namespace of its own, whose root is not the host's."""


@pytest.fixture
def commands(suite: str) -> str:
    """What shows the packages of the extra to the host."""
    if suite != SUITES[0]:
        pytest.skip("the packages are for the Python of Debian 13")
    try:
        folder = packages.folder()
    except LabUnavailableError as error:
        pytest.skip(str(error))
    return f"mkdir -p opt/packages\nmount --bind {folder} opt/packages\n"


def start(host: Host) -> None:
    done = host.run("systemctl", "start", UNIT, check=False)
    assert done.returncode == 0, (host.log(UNIT), host.run("systemctl", "status", UNIT, check=False).stdout)  # fmt: skip


def sample(host: Host, name: str) -> float:
    """The value of a sample without labels; -1 if there is none."""
    done = host.run("python3", "-c", GET, check=False)
    match = re.search(rf"^{name} (\S+)$", done.stdout, re.MULTILINE)
    return float(match[1]) if match else -1


def test_the_service_sees_the_containers_of_all_users(boot_host: BootHost, commands: str) -> None:
    with boot_host(files=FILES, commands=commands) as host:
        start(host)
        assert host.show(UNIT, "StatusText")["StatusText"].startswith("serving metrics at ")
        before = sample(host, "cdi_gen_metrics_containers")
        assert before >= 0, host.log(UNIT)
        host.sh(CONTAINER)
        until(lambda: sample(host, "cdi_gen_metrics_containers") > before, "the container is seen")
        process = host.show(UNIT, "MainPID")["MainPID"]
        status = host.sh(f"cat /proc/{process}/status")
        assert "Uid:\t0\t" not in status
        assert "CapEff:\t0000000000080004\n" in status
        assert host.sh("stat -c %a /run/cdi-gen-metrics/metrics.sock") == "660\n"
        until(
            lambda: (
                'examination_success{examination="doctor"} 1'
                in host.run("python3", "-c", GET).stdout
            ),
            "doctor has run",
        )
        host.run("systemctl", "stop", UNIT)
        assert host.show(UNIT, "Result")["Result"] == "success"
        assert host.sh("ls /run/cdi-gen-metrics 2>&1 || true").startswith("ls: cannot access")


def test_without_its_capabilities_it_sees_less(boot_host: BootHost, commands: str) -> None:
    """The control of the test above."""
    path = f"/etc/systemd/system/{UNIT}.d/fewer.conf"
    fewer = {path: "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n"}
    with boot_host(files=FILES | fewer, commands=commands) as host:
        host.sh(CONTAINER)
        start(host)
        until(lambda: sample(host, "cdi_gen_metrics_unseen") > 0, "not all containers are seen")


def test_a_service_that_hangs_is_started_again(boot_host: BootHost, commands: str) -> None:
    path = f"/etc/systemd/system/{UNIT}.d/soon.conf"
    soon = {path: "[Service]\nWatchdogSec=10\nTimeoutAbortSec=1\nRestartSec=1\n"}
    with boot_host(files=FILES | soon, commands=commands) as host:
        start(host)
        process = host.show(UNIT, "MainPID")["MainPID"]
        host.sh(f"kill -STOP {process}")
        until(lambda: host.show(UNIT, "MainPID")["MainPID"] not in {process, "0"}, "a new process")
        until(lambda: sample(host, "cdi_gen_metrics_unseen") >= 0, "it serves")
