# SPDX-License-Identifier: Apache-2.0
"""Specs of public reports: what check says of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cli.program import cdi_gen
from tests.refresh.machine import Machine
from tests.refresh.reported import UVM_OF_ANOTHER_BOOT, install_spec, put_drm_nodes, put_node

Machines = Callable[[str], Machine]

NVIDIA = Path(__file__).parents[1] / "parity/reference/nvidia_ctk/1gpu.json"
"""A spec that nvidia-ctk wrote, with driver 550."""


def test_nvidia_uvm_has_another_major_number_than_the_spec(machine: Machines) -> None:
    """NVIDIA/nvidia-container-toolkit#1934, NVIDIA/NemoClaw#4733: cuInit gives 999, nvidia-smi works."""
    host = machine("550-1gpu")
    spec = install_spec(host, UVM_OF_ANOTHER_BOOT)
    assert host.check() == [
        f"{spec}: /dev/nvidia-uvm has the number 511:0, on this host 510:0 [CDG-V106]",
        f"{spec}: /dev/nvidia-uvm-tools has the number 511:1, on this host 510:1 [CDG-V106]",
    ]
    spec.write_text(UVM_OF_ANOTHER_BOOT.replace("511", "510"))
    assert host.check() == []


def test_a_stale_spec_that_another_overrides_is_no_difference(machine: Machines) -> None:
    """NVIDIA/NemoClaw#4733: /etc/cdi/nvidia.yaml is left over beside a fresh /var/run/cdi."""
    host = machine("550-1gpu")
    spec = install_spec(host, UVM_OF_ANOTHER_BOOT)
    host.refresh()
    note = f"{host.gpus} has priority over {spec}, which defines the same devices [CDG-F104]"
    for _ in range(2):
        assert host.report() == (0, [], [note])
        assert host.refresh().written == ()


def test_a_spec_of_another_driver_is_left_over(machine: Machines, own_mounts: None) -> None:
    """HaveAGitGat/Tdarr#1423, Igalia/webkit-container-sdk#23: libEGL_nvidia.so of the old driver."""
    host = machine("535-flat")
    spec = install_spec(host, NVIDIA.read_text(), "nvidia.json")
    (line,) = [line for line in host.check() if "CDG-V104" in line]
    assert "libraries are of driver 550.163.01, the loaded driver is 535." in line
    missing = "/usr/lib/x86_64-linux-gnu/libEGL_nvidia.so.550.163.01 does not exist [CDG-V102]"
    assert f"{spec}: {missing}" in host.check()
    # The next refresh writes its own file, and says that there are others.
    document = json.loads(spec.read_text())
    old = Path("/run/cdi/old.json")
    old.parent.mkdir()
    old.write_text(json.dumps(document | {"devices": [document["devices"][0] | {"name": "old"}]}))
    result = cdi_gen("refresh", "--host-root", str(host.root))
    assert result.code == 0
    assert "the spec directories have files of other programs" in result.err
    old.unlink()
    result = cdi_gen("refresh", "--host-root", str(host.root))
    assert "the spec directories have files of other programs" not in result.err


def test_a_name_that_only_the_stale_spec_has_is_a_difference(machine: Machines) -> None:
    """NVIDIA/nvidia-container-toolkit#1860: what the fresh spec lacks comes from the other file."""
    host = machine("550-1gpu")
    spec = install_spec(host, UVM_OF_ANOTHER_BOOT.replace('"0"', "gpu0"))
    host.refresh()
    line = f"{spec}: /dev/nvidia-uvm has the number 511:0, on this host 510:0 [CDG-V106]"
    assert line in host.check()


def test_nodes_that_udev_made_without_a_number(machine: Machines) -> None:
    """lf-edge/eve#6387: nvidia-uvm, nvidia-uvm-tools and nvidia-modeset are 0:0."""
    host = machine("550-1gpu")
    for name in ("nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"):
        put_node(host, name, 0, 0)
    assert host.refresh().code == 0
    nodes = json.loads(host.gpus.read_text())["containerEdits"]["deviceNodes"]
    numbers = {node["path"]: (node["major"], node["minor"]) for node in nodes}
    assert numbers["/dev/nvidia-uvm"] == (510, 0)
    assert numbers["/dev/nvidia-uvm-tools"] == (510, 1)
    assert numbers["/dev/nvidia-modeset"] == (195, 254)
    assert host.check() == [], "the specs have the kernel's numbers"


def test_nodes_that_a_reload_of_the_module_left(machine: Machines) -> None:
    """NixOS/nixpkgs#285148: mknod says that the file exists, and the node keeps its old number.

    A spec that has no number takes that of the host.
    """
    host = machine("550-1gpu")
    put_node(host, "nvidia-uvm", 499, 0)
    text = UVM_OF_ANOTHER_BOOT.replace("    major: 511\n    fileMode: 438\n", "")
    spec = install_spec(host, text.replace("511", "510"))
    (line,) = host.check()
    assert line == (
        f"{spec}: /dev/nvidia-uvm on this host has the number 499:0, the kernel uses 510:0; the "
        "spec takes the number of the host [CDG-V106]"
    )


def test_graphics_cards_in_another_order(machine: Machines) -> None:
    """CachyOS/linux-cachyos#552, nextcloud/all-in-one#8471: after a boot the nodes are the other card's.

    All nodes exist, and have the numbers that the spec says.
    """
    host = machine("550-1gpu")
    host.refresh()
    spec = install_spec(host, host.gpus.read_text())
    for directory in (host.specs, host.state):
        shutil.rmtree(directory)
    assert host.check() == []
    put_drm_nodes(host, "0000:03:00.0", 1, 128)
    put_drm_nodes(host, "0000:1b:00.0", 0, 129)
    differences = host.check()
    assert differences[0] == (
        f"{spec}: nvidia.com/gpu=0 has /dev/dri/card1, /dev/dri/renderD128 of another graphics card "
        "than /dev/nvidia0 [CDG-V108]"
    )
    assert len(differences) == 4, "of each name, and of all"
    host.refresh()
    text = host.gpus.read_text()
    assert "/dev/dri/renderD129" in text
    assert "/dev/dri/renderD128" not in text
    assert [line for line in host.check() if str(host.gpus) in line] == []


def test_specs_of_wsl_and_of_jetson_need_no_module(machine: Machines) -> None:
    """docker/buildx and lf-edge/eve: their drivers are not in procfs."""
    host = machine("550-unloaded")
    for name in ("dxg", "nvmap", "nvhost-ctrl-gpu"):
        put_node(host, name, 10, 125)
    spec = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: {}\n  containerEdits:\n"
    spec += "    deviceNodes:\n    - path: {}\n"
    install_spec(host, spec.format("all", "/dev/dxg"))
    install_spec(
        host, spec.format("igpu", "/dev/nvmap\n    - path: /dev/nvhost-ctrl-gpu"), "b.yaml"
    )
    assert host.report() == (0, [], [])
    (host.root / "dev/dxg").unlink()
    (line,) = host.check()
    assert line.endswith("the device node /dev/dxg does not exist [CDG-V105]")
