# SPDX-License-Identifier: Apache-2.0
"""The unit and the user of containers that systemd starts: Podman's quadlets, of root and of a user."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from cdi_gen.containers.discovery import discover
from cdi_gen.containers.model import Container
from tests.kubernetes.kubelet import wait_until
from tests.lab import debian
from tests.lab.cache import LabUnavailableError
from tests.lab.systemd import boot

SUITE = "trixie-systemd"
"""Podman 4.3 of bookworm has no quadlets."""
USER = debian.USER

QUADLET = """[Container]
Rootfs=/opt/root
Exec=/bin/sleep 1000
Network=none
PodmanArgs=--pids-limit=0 --runtime=crun
"""
# What a user's quadlet becomes, without a notification: with D-Bus missing, a rootless Podman may end
# before systemd knows whose the notification of conmon is.
SERVICE = """[Service]
ExecStart=podman run --name systemd-shop --cgroups=split --network none --pids-limit=0 \\
    --runtime=crun --rootfs /opt/users-root /bin/sleep 1000
"""
# The root has neither logind, nor D-Bus, nor PAM's modules of systemd.
DIRECTORY = f"""[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/install -d -m 700 -o {USER} -g {USER} /run/user/%i
"""
MANAGER = "[Service]\nPAMName=\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i HOME=/home/user\n"
FILES = {
    "/etc/containers/systemd/web.container": QUADLET,
    "/etc/systemd/user/shop.service": SERVICE,
    "/etc/systemd/system/user-runtime-dir@.service": DIRECTORY,
    "/etc/systemd/system/user@.service.d/lab.conf": MANAGER,
}
PREPARE = """
mkdir -p opt var/lib/containers home/user
cp -a {root} opt/root
cp -a {root} opt/users-root
# Podman's storage cannot be on an overlay.
mount -t tmpfs none var/lib/containers
mount -t tmpfs none home/user
chown -R {user}:{user} opt/users-root home/user
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a container that can sleep."""
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("needs a static busybox")
    root = tmp_path / "container"
    for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    os.symlink("busybox", root / "bin/sleep")
    return root


def test_units_and_users(root: Path, tmp_path: Path) -> None:
    prepare = PREPARE.format(root=shlex.quote(str(root)), user=USER)
    as_user = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
    as_user += ["env", f"XDG_RUNTIME_DIR=/run/user/{USER}"]
    try:
        with boot(debian.root(SUITE), tmp_path / "boot", FILES, prepare=prepare) as host:
            host.wait_until_booted()
            host.run("systemctl", "start", f"user@{USER}.service")
            host.run("systemctl", "start", "web.service")
            host.run(*as_user, "systemctl", "--user", "start", "shop.service")

            def containers() -> tuple[Container, ...]:
                return discover(f"/proc/{host.first}/root").containers

            wait_until(lambda: len(containers()) == 2 and all(c.origin.name for c in containers()))
            by_unit = {container.origin.unit: container.origin for container in containers()}
    except LabUnavailableError as error:
        pytest.skip(str(error))
    assert {unit: (o.engine, o.name, o.user) for unit, o in by_unit.items()} == {
        "web.service": ("podman", "systemd-web", ""),
        "shop.service": ("podman", "systemd-shop", "user"),
    }
