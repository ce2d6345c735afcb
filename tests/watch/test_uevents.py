# SPDX-License-Identifier: Apache-2.0
"""Events of the kernel about modules and PCI devices."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_gen.watch.uevents import Uevents, concerns_nvidia, uevents
from tests.cli.program import CHECKOUT, ENVIRONMENT
from tests.kubernetes.kubelet import wait_until


@pytest.mark.parametrize(
    ("message", "is_relevant"),
    [
        (b"add@/module/nvidia\0ACTION=add\0DEVPATH=/module/nvidia\0SUBSYSTEM=module\0", True),
        (b"remove@/module/nvidia_uvm\0ACTION=remove\0SUBSYSTEM=module\0", True),
        (b"bind@/devices/pci0000:00/0000:00:06.0\0DRIVER=nvidia\0PCI_ID=10DE:2335\0", True),
        # The driver is not named when it is unbound.
        (b"unbind@/devices/pci0000:00/0000:00:06.0\0PCI_CLASS=30200\0PCI_ID=10DE:2335\0", True),
        (b"add@/devices/pci0000:00/0000:00:02.0\0PCI_ID=8086:56C0\0SUBSYSTEM=pci\0", False),
        (b"change@/devices/virtual/bdi/0:50\0ACTION=change\0SUBSYSTEM=bdi\0", False),
    ],
)
def test_events_of_the_driver_are_recognized(message: bytes, is_relevant: bool) -> None:
    assert concerns_nvidia(message) is is_relevant


def send(extra: str = "") -> None:
    """Have the kernel send an event of /dev/null again, which harms nobody."""
    identity = "7fa3b5f0-5b7e-4ab6-8a57-0c1c3c0f5d2e"
    try:
        Path("/sys/devices/virtual/mem/null/uevent").write_text(
            f"change {identity} {extra}".strip()
        )
    except OSError as error:
        pytest.skip(f"no event can be sent: {error}")


@pytest.fixture
def source() -> Iterator[Uevents]:
    source = uevents()
    if source is None:
        pytest.skip("this kernel has no events for this process")
    yield source
    source.close()


def is_readable(source: Uevents, seconds: float) -> bool:
    """Whether there is an event in time; not by select(), which takes no descriptor over 1023."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def wait_for_event(source: Uevents) -> None:
    if not is_readable(source, 20):
        pytest.skip("the events of this kernel do not reach this network namespace")


def test_events_of_other_devices_end_no_wait(source: Uevents) -> None:
    send()
    wait_for_event(source)

    def is_quiet() -> bool:
        """Whether two events are read at once; other processes cause events too, now and then."""
        send()
        send()
        return source.read() is False and not is_readable(source, 0)

    wait_until(is_quiet)


def test_an_event_of_the_driver_ends_the_wait(source: Uevents) -> None:
    send("TEST=nvidia")
    wait_for_event(source)
    assert source.read() is True


_LISTEN = """
import select
from cdi_gen.watch.uevents import uevents
source = uevents()
print("ready", flush=True)
while select.select([source], [], [], 60)[0]:
    if source.read():
        print("read", flush=True)
        break
"""


def test_events_reach_a_network_namespace_of_its_own(source: Uevents) -> None:
    """The unit has PrivateNetwork=yes."""
    send()
    wait_for_event(source)
    with subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", _LISTEN],
        stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            pytest.skip("no network namespace can be made")
        send("TEST=nvidia")
        assert process.stdout.readline() == "read\n"
