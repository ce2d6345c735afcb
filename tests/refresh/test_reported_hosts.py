# SPDX-License-Identifier: Apache-2.0
"""Hosts of public reports: what refresh makes of them, and check says."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable

from cdi_base.host_fingerprint import Layout
from cdi_gen.watch.host_state import Observer
from tests.cli.program import cdi_gen
from tests.fakehost.layouts import ldconfig
from tests.refresh.machine import DriverUpdate, Machine
from tests.refresh.reported import UVM_OF_ANOTHER_BOOT, install_spec, put_node

Machines = Callable[[str], Machine]


def test_a_library_that_a_package_installs_under_its_soname(machine: Machines) -> None:
    """negativo17/nvidia-driver#195: libGLX_nvidia.so.0 is a file, and none has the version.

    nvidia_icd.json names it, and Vulkan failed in every container.
    """
    host = machine("550-lib64")
    version = host.fake.driver_version
    library = host.root / "usr/lib64/libGLX_nvidia.so.0"
    library.unlink()
    library.with_name(f"libGLX_nvidia.so.{version}").rename(library)
    # Of another driver, and of no driver.
    other = library.with_name("libEGL_nvidia.so.0")
    other.unlink()
    other.with_name(f"libEGL_nvidia.so.{version}").unlink()
    other.write_bytes(library.read_bytes().replace(version.encode(), b"535.161.07"))
    ldconfig(host.root)
    assert host.refresh().code == 0
    mounts = json.loads(host.gpus.read_text())["containerEdits"]["mounts"]
    sources = {mount["containerPath"]: mount["hostPath"] for mount in mounts}
    assert sources["/usr/lib64/libGLX_nvidia.so.0"] == "/usr/lib64/libGLX_nvidia.so.0"
    assert "/usr/lib64/libEGL_nvidia.so.0" not in sources
    assert host.check() == []


def test_the_persistence_daemon_is_stopped_for_an_update(
    driver_update: tuple[Machine, DriverUpdate],
) -> None:
    """badbread/crumbvms#395: "open /run/nvidia-persistenced/socket: no such file or directory".

    The libraries are those of the new driver, the module is the old one until the next boot, and
    the daemon does not start. The specs that stay must not name its socket.
    """
    host, update = driver_update
    socket = host.root / "run/nvidia-persistenced/socket"
    socket.parent.mkdir(parents=True)
    os.mknod(socket, stat.S_IFSOCK | 0o666)
    host.refresh()
    assert "/run/nvidia-persistenced/socket" in host.gpus.read_text()
    update.install_libraries()
    update.remove_old_libraries()
    before = host.contents()
    assert host.refresh().code == 5
    assert host.contents() == before
    socket.unlink()
    refreshed = host.refresh()
    assert refreshed.code == 5
    assert "the specs stay as they are" in refreshed.message
    old, new = json.loads(before["nvidia.json"]), json.loads(host.gpus.read_text())
    mounts = old["containerEdits"]["mounts"]
    kept = [mount for mount in mounts if "persistenced/socket" not in mount["hostPath"]]
    assert len(kept) == len(mounts) - 1
    assert new == {**old, "containerEdits": {**old["containerEdits"], "mounts": kept}}
    # They are ours still: the refresh after the update replaces them.
    assert not [line for line in host.check() if "CDG-V110" in line]
    update.install_files()
    update.load_module()
    assert host.refresh() == (0, ("nvidia.json", "nvidia-cap.json"), (), (), "")


def test_nvidia_uvm_is_not_loaded_yet(machine: Machines, own_mounts: None) -> None:
    """NVIDIA/nvidia-container-toolkit#50 and #856: the first spec after a boot has no nvidia-uvm.

    nvidia-smi works in a container, CUDA does not.
    """
    host = machine("550-1gpu")
    for name in ("nvidia-uvm", "nvidia-uvm-tools"):
        (host.root / "dev" / name).unlink()
    devices = host.root / "proc/devices"
    text = devices.read_text()
    devices.write_text("".join(line for line in text.splitlines(True) if "uvm" not in line))
    words = ("--host-root", str(host.root), "--output-directory", str(host.specs))
    result = cdi_gen("refresh", *words)
    assert result.code == 0
    assert "the host lacks /dev/nvidia-uvm, /dev/nvidia-uvm-tools" in result.err
    assert "no hook program is installed, so the spec has no hooks" in result.err
    assert "nvidia-uvm" not in host.gpus.read_text()
    # The module is loaded, by nvidia-modprobe or by the first CUDA program of the host.
    devices.write_text(text)
    put_node(host, "nvidia-uvm", 510, 0)
    put_node(host, "nvidia-uvm-tools", 510, 1)
    result = cdi_gen("refresh", *words)
    assert f"nvidia.com/gpu in {host.gpus}" in result.err
    assert "/dev/nvidia-uvm-tools" in host.gpus.read_text()


def test_a_daemon_starts_after_the_refresh(machine: Machines) -> None:
    """containers/toolbox#1572, NVIDIA/nvidia-container-toolkit#1611: the socket comes, and goes."""
    host = machine("550-1gpu")
    socket = host.root / "run/nvidia-persistenced/socket"
    host.refresh()
    assert "persistenced/socket" not in host.gpus.read_text()
    socket.parent.mkdir(parents=True)
    os.mknod(socket, stat.S_IFSOCK | 0o666)
    assert not host.is_fast()
    assert f"{host.gpus}: + file /run/nvidia-persistenced/socket [CDG-V111]" in host.check()
    assert host.refresh().written == ("nvidia.json", "nvidia-cap.json")
    assert "persistenced/socket" in host.gpus.read_text()
    shutil.rmtree(socket.parent)
    gone = f"{host.gpus}: /run/nvidia-persistenced/socket does not exist [CDG-V102]"
    assert gone in host.check()
    host.refresh()
    assert host.check() == []


def test_a_mig_device_is_created_after_the_refresh(machine: Machines) -> None:
    """NVIDIA/nvidia-container-toolkit#1828, Azure/AgentBaker#8736: MIG is configured later."""
    host = machine("550-mig-mixed")
    host.refresh()
    spec = json.loads(host.gpus.read_text())
    before = [device for device in spec["devices"] if "nvidia-cap219" not in json.dumps(device)]
    shutil.rmtree(host.state)
    shutil.rmtree(host.specs)
    install_spec(host, json.dumps({**spec, "devices": before}), "nvidia.json")
    line = (
        "no spec has a device for the MIG device 9/0 (GPU instance/compute instance) of GPU 1 at "
        "0000:1e:00.0 [CDG-V109]"
    )
    assert line in host.check()
    assert host.refresh().code == 4, "GPU 2 is in MIG mode, and has no instance"
    assert host.check() == []
    shutil.rmtree(host.root / "proc/driver/nvidia/capabilities/gpu1/mig/gi9")
    gone = f"{host.gpus}: nvidia.com/gpu=1:3: this host has no MIG device with nvidia-cap219"
    assert f"{gone} [CDG-V107]" in host.check()


def test_a_gpu_is_taken_away(machine: Machines) -> None:
    """beclab/Olares#2435, NVIDIA/open-gpu-kernel-modules#842: a card in a Thunderbolt case."""
    host = machine("550-lib64")
    host.refresh()
    gpus = sorted((host.root / "proc/driver/nvidia/gpus").iterdir())
    shutil.move(gpus[1], host.folder / "gone")
    (host.root / "dev/nvidia1").unlink()
    assert f"{host.gpus}: nvidia.com/gpu=1: this host has no GPU /dev/nvidia1 [CDG-V107]" in (
        host.check()
    )
    assert host.refresh().written == ("nvidia.json",)
    assert host.check() == []
    shutil.move(host.folder / "gone", gpus[1])
    put_node(host, "nvidia1", 195, 1)
    (line,) = host.check()
    assert line.startswith("no spec has a device for GPU 1 at ")
    host.refresh()
    assert host.check() == []


def test_a_host_without_a_cache_of_the_loader(machine: Machines) -> None:
    """awslabs/amazon-eks-ami#2816: the image runs no ldconfig at boot."""
    host = machine("550-lib64")
    (host.root / "etc/ld.so.cache").unlink()
    assert host.refresh().code == 0
    assert f"/usr/lib64/libcuda.so.{host.fake.driver_version}" in host.gpus.read_text()
    assert host.check() == []


def test_alternatives_are_switched_to_mesa(machine: Machines) -> None:
    """community-scripts/ProxmoxVE#12372: Debian's update-glx --set glx /usr/lib/mesa-diverted.

    The driver is installed still, and only what its alternatives led to is lost.
    """
    host = machine("550-debian")
    host.refresh()
    for path in (host.root / "etc/alternatives").iterdir():
        if path.is_symlink() and "nvidia" in os.readlink(path):
            path.unlink()
    ldconfig(host.root)
    assert not host.is_fast()
    assert host.refresh().code == 0
    assert f"/nvidia/current/libcuda.so.{host.fake.driver_version}" in host.gpus.read_text()
    assert host.check() == []


def test_a_hook_program_at_another_place(machine: Machines) -> None:
    """siderolabs/talos#13021: hooks name /usr/bin/nvidia-ctk, which is in /usr/local/bin."""
    host = machine("550-1gpu")
    hooks = "  hooks:\n  - hookName: createContainer\n    path: /usr/bin/nvidia-ctk\ndevices:"
    spec = install_spec(host, UVM_OF_ANOTHER_BOOT.replace("511", "510").replace("devices:", hooks))
    assert host.check() == [
        f"{spec}: the hook program /usr/bin/nvidia-ctk does not exist [CDG-V103]"
    ]


def test_a_program_that_the_driver_does_not_have(machine: Machines) -> None:
    """NixOS/nixpkgs#319201: a module of NixOS adds nvidia-powerd, which driver 470 has not."""
    host = machine("550-1gpu")
    mounts = "  mounts:\n  - hostPath: /nix/store/x-nvidia-470/bin/nvidia-powerd\n"
    mounts += "    containerPath: /usr/bin/nvidia-powerd\ndevices:"
    text = UVM_OF_ANOTHER_BOOT.replace("511", "510").replace("devices:", mounts)
    spec = install_spec(host, text, "nvidia-container-toolkit.yaml")
    assert host.check() == [
        f"{spec}: /nix/store/x-nvidia-470/bin/nvidia-powerd does not exist [CDG-V102]"
    ]


def test_a_new_generation_of_the_system(machine: Machines) -> None:
    """NixOS/nixpkgs#255070: nixos-rebuild switch, and later the old files are collected.

    No file of the specs changes, no cache of the loader is written, and the specs are wrong.
    """
    host = machine("550-nixos")
    host.refresh()
    observer = Observer(Layout(), str(host.root))
    before = observer.state()
    links = host.root / "run/opengl-driver"
    (old,) = (host.root / "nix/store").iterdir()
    new = old.with_name(f"new-{old.name}")
    shutil.copytree(old, new, symlinks=True)
    switched = host.root / "run/switched"
    shutil.copytree(links, switched, symlinks=True)
    for path in switched.rglob("*"):
        if path.is_symlink():
            text = os.readlink(path).replace(old.name, new.name)
            path.unlink()
            path.symlink_to(text)
    shutil.rmtree(links)
    switched.rename(links)
    assert before.difference(observer.state()) == "the libraries"
    assert not host.is_fast()
    assert host.report()[0] == 5
    assert host.refresh().written == ("nvidia.json", "nvidia-cap.json")
    assert f"/{old.name}/lib/libcuda.so" not in host.gpus.read_text()
    assert f"/{new.name}/lib/libcuda.so" in host.gpus.read_text()


def test_empty_files_of_other_drivers_are_left(machine: Machines) -> None:
    """NVIDIA/libnvidia-container#50: targets of mounts that a committed container has."""
    host = machine("550-lib64")
    for name in ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"):
        (host.root / f"usr/lib64/{name}.so.570.133.20").touch()
    assert host.refresh().code == 0
    assert b"570.133" not in host.gpus.read_bytes()
    assert host.check() == []
