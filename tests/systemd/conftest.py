# SPDX-License-Identifier: Apache-2.0
"""Hosts that boot with the units of cdi-gen, real units of engines, and a fake driver."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdi_gen.programs.host_files import host_files
from tests.fakehost.hosts import FakeHost
from tests.lab import debian
from tests.lab.cache import LabUnavailableError
from tests.lab.systemd import Booted, boot

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = REPOSITORY / "systemd"
SUITES = ("trixie-systemd", "bookworm-systemd")
"""Roots with systemd 257 and 252; Podman 4.3 of the latter has no quadlets."""
QUADLET = "web.service"
PATIENCE = 120.0

ENGINES = {
    # Debian's units.
    "docker.service": "",
    "containerd.service": "",
    "podman-restart.service": "",
    # Made of a quadlet by Podman's generator.
    QUADLET: "",
    # Units of engines that Debian does not have.
    "crio.service": "After=network-online.target\nWants=network-online.target\n",
    "kubelet.service": "After=network-online.target\nWants=network-online.target\n",
    "k3s.service": "After=network-online.target\nWants=network-online.target\n",
}
"""What starts containers at boot, with the dependencies of units that are written here."""

STAND_IN = "#!/bin/sh\nls /run/cdi >/run/seen-$1 2>/dev/null\n"
"""What is run instead of an engine: it notes the specs that there are when it starts."""

_SERVICE = (
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=\nExecStart=/usr/bin/stand-in %n\n"
)
_CLEAR = "Restart=no\nExecStartPre=\nExecStop=\nExecReload=\nExecStopPost=\nEnvironmentFile=\n"

PROGRAM = """#!/bin/sh
export PYTHONPATH=/opt/cdi-gen:/opt/cdi-gen/hooks:/opt/cdi-gen/specs PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -W ignore -m cdi_gen "$@"
"""

LOAD = """#!/bin/sh
# The kernel module is loaded, and nvidia-modprobe creates the nodes.
set -e
cp -a /opt/fake/proc/driver/. /proc/driver/
cp -a /opt/fake/dev/nvidia* /dev/
"""
UNLOAD = "#!/bin/sh\nrm -rf /proc/driver/* /dev/nvidia*\n"

LOG = "[Service]\nStandardOutput=append:/run/log-%n\nStandardError=inherit\n"
WITHOUT_OWN_PROCFS = "ProtectKernelTunables=no\nProtectControlGroups=no\n"
"""systemd 252 gives units with these options a new procfs and sysfs, which lack the fake driver: it is
mounted on those of the host. The driver of a real kernel is in every procfs."""

_PREPARE = """
mkdir -p opt/cdi-gen opt/fake
mount --bind {checkout} opt/cdi-gen
mount --bind {fake} opt/fake
mount -t tmpfs none proc/driver
mount --bind {fake}/proc/devices proc/devices
mount -t tmpfs none sys/bus/pci/devices
for device in {gpus}; do
    mkdir sys/bus/pci/devices/$device
    cp {fake}/sys/bus/pci/devices/$device/vendor {fake}/sys/bus/pci/devices/$device/class \\
        sys/bus/pci/devices/$device
done
chroot . systemctl --quiet preset cdi-gen.service cdi-gen-watch.service cdi-gen.path cdi-gen-device-nodes.service cdi-gen-metrics.service
chroot . systemctl --quiet add-wants multi-user.target {engines}
"""


class Host(Booted):
    """A booted host, and what tests do to it."""

    engines: tuple[str, ...] = ()
    """The units that start containers at boot."""

    def seen(self) -> dict[str, list[str]]:
        """The specs that each engine saw when it started."""
        return {
            path.name.removeprefix("seen-"): path.read_text().split()
            for path in (self.root / "run").glob("seen-*")
        }

    def log(self, unit: str) -> str:
        """What a unit has printed."""
        path = self.root / f"run/log-{unit}"
        return path.read_text() if path.exists() else ""

    def status(self) -> str:
        """What `cdi-gen watch` tells systemd."""
        return self.show("cdi-gen-watch.service", "StatusText")["StatusText"]

    def has_specs(self) -> bool:
        return (self.root / "run/cdi/nvidia.json").exists()

    def refresh(self) -> str:
        """The identity of the last refresh that has ended."""
        shown = self.show("cdi-gen.service", "ActiveState", "InvocationID")
        return "" if shown["ActiveState"] in {"activating", "reloading"} else shown["InvocationID"]

    def wait_for_refresh(self, last: str) -> None:
        """Wait for the end of a refresh after another one."""
        until(lambda: self.refresh() not in {"", last}, f"a refresh: {self.log('cdi-gen.service')}")


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


BootHost = Callable[..., contextlib.AbstractContextManager[Host]]


@pytest.fixture(params=[SUITES[0], pytest.param(SUITES[1], marks=pytest.mark.nightly)])
def suite(request: pytest.FixtureRequest) -> str:
    """The root that boots."""
    return str(request.param)


@pytest.fixture
def boot_host(suite: str, own_host: Callable[[str], FakeHost], tmp_path: Path) -> BootHost:
    """Boot a host with the units; with ``loaded`` its driver is loaded before."""
    try:
        lower = debian.root(suite)
    except LabUnavailableError as error:
        pytest.skip(f"no {suite} root: {error}")

    @contextlib.contextmanager
    def booted(
        name: str = "550-lib64",
        *,
        loaded: bool = False,
        installed: bool = False,
        files: dict[str, str] | None = None,
        commands: str = "",
    ) -> Iterator[Host]:
        fake = own_host(name)
        gpus = " ".join(gpu.pci_address for gpu in fake.kernel.gpus)
        is_old = suite == SUITES[1]
        prepare = _PREPARE.format(
            checkout=shlex.quote(str(REPOSITORY)),
            fake=shlex.quote(str(fake.root)),
            gpus=gpus,
            engines=" ".join(name for name in ENGINES if name != QUADLET),
        )
        if loaded:
            prepare += "chroot . /usr/bin/load-driver\n"
        work = tmp_path / f"boot-{os.urandom(4).hex()}"
        release = os.uname().release
        modules = f"extra/{'nvidia' if installed else 'nothing'}.ko:\n"
        texts = _files() | {f"/usr/lib/modules/{release}/modules.dep": modules} | (files or {})
        if is_old:
            texts["/etc/systemd/system/service.d/log.conf"] += WITHOUT_OWN_PROCFS
            # They fail in namespaces, and are enabled in Debian 12.
            prepare += "chroot . systemctl --quiet mask podman.service podman-auto-update.service\n"
        try:
            with boot(lower, work, texts, prepare=prepare + commands) as system:
                host = Host(system.first, system.root)
                host.engines = tuple(name for name in ENGINES if not is_old or name != QUADLET)
                host.wait_until_booted()
                until(lambda: host.status() != "started", "the first refresh of watch")
                yield host
        except LabUnavailableError as error:
            pytest.skip(str(error))

    return booted


def _files() -> dict[str, str]:
    files = {
        "/etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "/etc/cdi-gen/config.toml": '[host]\ndriver-root = "/opt/fake"\ndev-root = "/"\n',
        "/etc/containers/systemd/web.container": "[Container]\nImage=localhost/web\n"
        "[Install]\nWantedBy=multi-user.target\n",
        "/etc/systemd/system/service.d/log.conf": LOG,
        "/usr/bin/cdi-gen": PROGRAM,
        "/usr/bin/load-driver": LOAD,
        "/usr/bin/stand-in": STAND_IN,
        "/usr/bin/unload-driver": UNLOAD,
    }
    units = host_files("/usr", "/usr/bin/cdi-gen")
    files |= {file.path: file.content.decode() for file in units}
    for name, dependencies in ENGINES.items():
        stand_in = f"{_SERVICE}{_CLEAR}"
        if dependencies:
            files[f"/usr/lib/systemd/system/{name}"] = f"[Unit]\n{dependencies}{_SERVICE}"
        else:
            files[f"/etc/systemd/system/{name}.d/stand-in.conf"] = stand_in
    return files
