# SPDX-License-Identifier: Apache-2.0
"""Specs and device nodes as public reports have them."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from tests.refresh.machine import Machine


def install_spec(machine: Machine, text: str, name: str = "nvidia.yaml") -> Path:
    """Write a spec into the directory for specs that outlive a boot."""
    path = machine.folder / "etc-cdi" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def put_node(machine: Machine, name: str, major: int, minor: int) -> None:
    """Put a device node in the place of another."""
    path = machine.root / "dev" / name
    path.unlink(missing_ok=True)
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))


def put_drm_nodes(machine: Machine, pci_address: str, *numbers: int) -> None:
    """Give a graphics card other DRM nodes."""
    domain, bus, _ = pci_address.split(":")
    directory = machine.root / f"sys/devices/pci{domain}:{bus}/{pci_address}/drm"
    shutil.rmtree(directory, ignore_errors=True)
    for number in numbers:
        name = f"renderD{number}" if number >= 128 else f"card{number}"
        (directory / name).mkdir(parents=True)
        (directory / name / "dev").write_text(f"226:{number}\n")
        put_node(machine, f"dri/{name}", 226, number)


# nvidia-ctk writes major numbers, no types, and no minor number that is 0.
UVM_OF_ANOTHER_BOOT = """\
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  deviceNodes:
  - path: /dev/nvidia-uvm
    major: 511
    fileMode: 438
    permissions: rw
  - path: /dev/nvidia-uvm-tools
    major: 511
    minor: 1
    permissions: rw
  - path: /dev/nvidiactl
    major: 195
    minor: 255
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      major: 195
"""
