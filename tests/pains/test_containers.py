# SPDX-License-Identifier: Apache-2.0
"""Running containers of real engines that have too much, or not what they were given.

The GPUs are nodes without a driver: a node that may be opened says ENXIO, a refused one EPERM.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import beside_engines
from tests.engine.beside_engines import INVENTORY, Machine
from tests.fakehost.hosts import FakeHost
from tests.host import looking
from tests.host.looking import SOURCES
from tests.lab.engines import Lab
from tests.lab.podman import Podman
from tests.pains import pain
from tests.prestart.conftest import _as_root, compiled, library
from tests.prestart.conftest import machine as prestart
from tests.prestart.machine import DENIED, NO_DEVICE
from tests.prestart.machine import Machine as Prestart
from tests.prestart.test_systemd import booted, running

__all__ = ["_as_root", "compiled", "library", "prestart"]

SUDO = '#!/bin/sh\nexec "$@"\n'
GENERATE = """#!/bin/sh
# The host is an inventory here: the machine's own procfs has no driver.
case $1 in
generate)
    set -- "$@" --inventory /opt/inventory.json
    [ ! -e $HOOK ] || set -- "$@" --nvidia-cdi-hook-path $HOOK
esac
exec /usr/bin/cdi-gen "$@"
"""
MPS = "/tmp/nvidia-mps"
HOOK = "/usr/local/libexec/cdi-gen/cdi-gen-hook"


@pytest.fixture(scope="module")
def machine(
    host: Callable[[str], FakeHost],
    lab_of: Callable[[str], Lab],
    image_archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    """A host with four GPUs and a driver, Podman, and the programs that the advice calls."""
    fake = host("550-server")
    inventory = tmp_path_factory.mktemp("who") / "inventory.json"
    inventory.write_text(looking.run("inventory", host_root=str(fake.root)).stdout)
    lab = lab_of(beside_engines.SUITE)
    with beside_engines.enter(
        lab, image_archives["all"], "v2", inventory=inventory, under=[fake.root]
    ) as machine:
        machine.inside.write("/usr/local/bin/sudo", SUDO, mode=0o755)
        program = GENERATE.replace("$HOOK", HOOK)
        machine.inside.write("/usr/local/bin/cdi-gen", program, mode=0o755)
        yield machine


def finding(document: dict[str, Any], code: str) -> dict[str, str]:
    (found,) = [one for one in document["findings"] if one["code"] == code]
    return dict(found)


@pain(
    31,
    "CUDA error 805: MPS client failed to connect to the MPS control daemon",
    command="cdi-gen why --container NAME",
    codes=("CDG-Y231",),
    simulated=True,
)
def test_every_container_is_a_client_of_mps(machine: Machine) -> None:
    """The spec mounts the directory of MPS whenever it exists, as nvidia-ctk's specs do."""
    inside = machine.inside
    inside.write(f"{MPS}/control", "")
    inside.run(["cdi-gen", "generate", "-o", "/etc/cdi/nvidia.json"])
    spec = json.loads(inside.read("/etc/cdi/nvidia.json"))
    options = ["rw", "nosuid", "nodev", "rbind"]
    mount = {"hostPath": MPS, "containerPath": MPS, "options": options}
    spec["containerEdits"]["mounts"].append(mount)
    inside.write("/etc/cdi/nvidia.json", json.dumps(spec))
    machine.podman("crun", 0, "client", "--device", "nvidia.com/gpu=0")
    podman = Podman(inside)
    seen = "cat /tmp/nvidia-mps/control && echo seen"
    assert podman("exec", "client", "sh", "-c", seen).stdout == "seen\n"

    mps = finding(machine.why("--container", "client", code=0), "CDG-Y231")
    assert "a client of the host's MPS daemon" in mps["message"]
    assert "by /etc/cdi/nvidia.json" in mps["message"]

    inside.run(["sh", "-ec", mps["fix"]])
    assert podman("exec", "client", "sh", "-c", seen, check=False).stdout == ""
    assert machine.why("--container", "client", code=0)["findings"] == []


NVIDIA_SMI = "mknod /dev/nvidia1 c 195 1; mknod /dev/nvidia2 c 195 2; mknod /dev/nvidia3 c 195 3"
"""What nvidia-smi does as root: nvidia-modprobe makes the nodes of all GPUs of the host."""


@pain(
    33,
    "nvidia-smi in the container creates /dev/nvidia1, /dev/nvidia2 … of GPUs that it was not given",
    command="cdi-gen why --container NAME",
    codes=("CDG-Y214",),
    simulated=True,
)
def test_nvidia_smi_makes_nodes_of_other_gpus(machine: Machine) -> None:
    """The hook's own part needs the procfs of a driver: tests/gpu has it on GPUs."""
    inside = machine.inside
    inside.run(["cdi-gen", "generate", "--hooks=none", "-o", "/etc/cdi/nvidia.json"])
    device = ("--device", "nvidia.com/gpu=0")
    machine.podman("crun", 0, "smi", *device, "--cap-add=MKNOD")
    podman = Podman(inside)
    podman("exec", "smi", "sh", "-c", NVIDIA_SMI)
    opened = podman("exec", "smi", "sh", "-c", "cat /dev/nvidia0 /dev/nvidia1", check=False)
    assert "No such device or address" in opened.stderr.splitlines()[0]
    assert "Operation not permitted" in opened.stderr.splitlines()[1]

    made = finding(machine.why("--container", "smi", code=0), "CDG-Y214")
    assert "/dev/nvidia1, /dev/nvidia2, /dev/nvidia3 was made in the container" in made["message"]
    assert "ModifyDeviceFiles" in made["message"]

    first, _, second = made["fix"].partition("; or create the container with ")
    inside.run(["sh", "-ec", first])
    assert "--disable-device-node-modification" in inside.read("/etc/cdi/nvidia.json")
    podman("rm", "-f", "-t", "0", "smi")
    machine.podman("crun", 0, "smi", *device, second)
    podman("exec", "smi", "sh", "-c", NVIDIA_SMI, check=False)
    assert "CDG-Y214" not in json.dumps(machine.why("--container", "smi", code=0))


NODES = {"nvidia0": 0, "nvidia1": 1, "nvidiactl": 255}
OWN_DEV = f"""
    mount -t tmpfs -o mode=755 none /dev; mkdir /dev/pts /dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts; ln -s pts/ptmx /dev/ptmx
    for it in null:3 zero:5 full:7 random:8 urandom:9; do
        mknod -m 666 /dev/${{it%:*}} c 1 ${{it#*:}}
    done
    mknod -m 666 /dev/tty c 5 0
    {"; ".join(f"mknod -m 666 /dev/{name} c 195 {minor}" for name, minor in NODES.items())}
"""
BEHIND_SYSTEMD = "\n\ndef allow(*_):\n    return False\n"
"""NVIDIA's prestart hook changes the control group itself. cdi-gen's tells systemd: without that
part it stands for NVIDIA's here."""


def own_program(machine: Prestart) -> str:
    """A directory with the programs that the advice calls; the spec is the machine's."""
    directory = machine.folder / "bin"
    directory.mkdir()
    python = f"PYTHONPATH={SOURCES} exec {sys.executable} -W ignore -m cdi_gen"
    program = f"""#!/bin/sh
        case $1 in inject) set -- "$@" --spec-dir {machine.specs} ;; esac
        {python} "$@"
    """
    for name, text in (("sudo", SUDO), ("cdi-gen", program.lstrip())):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return str(directory)


@pytest.mark.engine
@pain(
    43,
    "Failed to initialize NVML: Unknown Error (after systemctl daemon-reload)",
    command="cdi-gen why --container NAME",
    codes=("CDG-Y213",),
)
def test_daemon_reload_takes_the_gpus_away(prestart: Prestart) -> None:
    libexec = prestart.folder / "libexec"
    shutil.copytree(Path(prestart.program).parent, libexec)
    with (libexec / "cdi_runtime/prestart/systemd.py").open("a") as module:
        module.write(BEHIND_SYSTEMD)
    prestart.program = str(libexec / "cdi-gen-runtime-hook")
    path = f"{own_program(prestart)}:/usr/sbin:/usr/bin:/sbin:/bin"
    with booted(prestart, OWN_DEV) as systemd, running(prestart, systemd) as inside:

        def why() -> dict[str, Any]:
            words = ("why", "--container", "gpu", "--inventory", str(INVENTORY), "-o", "json")
            ended = systemd.run("env", f"PATH={path}", "cdi-gen", *words, check=False)
            assert "Traceback" not in ended.stderr
            document: dict[str, Any] = json.loads(ended.stdout)
            return document

        def opened() -> str:
            ended = systemd.run(*inside, "cat </dev/nvidia0; cat </dev/nvidiactl", check=False)
            return ended.stdout + ended.stderr

        assert opened().count(NO_DEVICE) == 2
        assert [one for one in why()["findings"] if one["code"] == "CDG-Y213"] == []
        systemd.run("systemctl", "daemon-reload")
        assert opened().count(DENIED) == 2

        document = why()
        lost = finding(document, "CDG-Y213")
        assert "Failed to initialize NVML: Unknown Error" in lost["message"]
        assert "a prestart hook, allowed the devices" in lost["message"]
        assert "/dev/char/195:0, where systemd looks for it, does not exist" in lost["message"]
        states = {node["path"]: node["state"] for node in document["nodes"]}
        assert states["/dev/nvidia0"] == states["/dev/nvidiactl"] == "refused"

        command, _, condition = lost["fix"].partition(", after ")
        config = prestart.bundle / "config.json"
        assert condition == f"the prestart hook is removed from {config}"
        configuration = json.loads(config.read_text())
        del configuration["hooks"]["prestart"]
        config.write_text(json.dumps(configuration))
        script = f"PATH={path}; {command} </dev/null >/dev/null 2>&1"
        systemd.run("sh", "-ec", script)
        systemd.run("systemctl", "daemon-reload")
        assert opened().count(NO_DEVICE) == 2
        assert [one for one in why()["findings"] if one["code"] == "CDG-Y213"] == []
