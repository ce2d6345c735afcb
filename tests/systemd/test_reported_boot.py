# SPDX-License-Identifier: Apache-2.0
"""Boots of public reports: units of distributions and of users beside those of cdi-gen."""

from __future__ import annotations

import pytest

from tests.systemd.conftest import BootHost
from tests.systemd.test_boot import SLOW_DRIVER, SPECS, WANTED

pytestmark = [pytest.mark.engine, pytest.mark.host]

RUN = "Type=oneshot\nRemainAfterExit=yes\nExecStart=-/usr/bin/stand-in %n\n"
UNITS = {
    # negativo17's unit, as in the report: without a node at that moment it is skipped for good.
    "nvidia-persistenced": f"[Unit]\nConditionPathExistsGlob=/dev/nvidia*\n[Service]\n{RUN}",
    "nvidia-powerd": f"[Unit]\nConditionPathExistsGlob=/dev/nvidia*\n[Service]\n{RUN}",
    # A user's unit of multi-user.target that needs the specs.
    "triton": f"[Unit]\nRequires=cdi-gen.service\nAfter=cdi-gen.service\n[Service]\n{RUN}",
}
MODULE_ALONE = {"/usr/bin/load-driver": "#!/bin/sh\ncp -a /opt/fake/proc/driver/. /proc/driver/\n"}
"""The kernel module is loaded, and no program creates its nodes."""
OF_GPUS = {
    "/etc/systemd/system/cdi-gen-device-nodes.service.d/gpus.conf": "[Service]\n"
    "ExecStart=/bin/sh -c 'cp -a /opt/fake/dev/nvidia[0-9]* /dev/'\n"
}
"""In a container, as this host is one, cdi-gen creates no nodes of GPUs."""


def test_what_is_skipped_without_nodes_starts_after_they_are_made(boot_host: BootHost) -> None:
    """ublue-os/ucore#419, ublue-os/akmods#565: nvidia-persistenced loses the race for /dev/nvidia*.

    NVIDIA/nvidia-container-toolkit#1735: a unit of multi-user.target that is ordered after the
    specs must not be in a cycle.
    """
    files = {f"/usr/lib/systemd/system/{name}.service": text for name, text in UNITS.items()}
    commands = "chroot . systemctl --quiet enable cdi-gen-device-nodes.service\n" + WANTED
    for name in UNITS:
        commands += f"chroot . systemctl --quiet add-wants multi-user.target {name}.service\n"
    files |= SLOW_DRIVER | MODULE_ALONE | OF_GPUS
    with boot_host(installed=True, files=files, commands=commands) as host:
        seen = host.seen()
        assert seen["triton.service"] == SPECS
        # They start before the specs, which name the daemon's socket.
        assert seen["nvidia-persistenced.service"] == []
        assert seen["nvidia-powerd.service"] == []
        assert host.run("systemctl", "is-system-running", check=False).stdout == "running\n"
