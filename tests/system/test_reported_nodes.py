# SPDX-License-Identifier: Apache-2.0
"""Device nodes and links of public reports: numbers that another driver has after a reload."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.program import cdi_gen
from tests.system.machine import MIG, machine, nodes_in

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")


def _system(command: str, root: Path) -> str:
    result = cdi_gen("system", command, "--host-root", str(root))
    assert result.code == 0, result.err
    return result.err


def test_the_old_number_of_nvidia_uvm_is_that_of_nvidia_caps(tmp_path: Path) -> None:
    """wendylabsinc/WendyOS#1888, NixOS/nixpkgs#285148, bottlerocket-os/bottlerocket#3072.

    The module was reloaded: nvidia-uvm had 234 and has 510, nvidia-caps had 510 and has 234. Nodes
    and links of before are left, and a container opened the wrong driver.
    """
    root = machine(tmp_path / "host", MIG)
    right = nodes_in(root / "dev")
    exchanged = {510: 234, 234: 510}
    for name, (major, minor, _) in right.items():
        if major in exchanged:
            path = root / "dev" / name
            path.unlink()
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(exchanged[major], minor))
    _system("create-dev-char-symlinks", root)
    links = root / "dev/char"
    assert os.readlink(links / "234:0") == "/dev/nvidia-uvm"
    _system("create-device-nodes", root)
    assert {name: numbers[:2] for name, numbers in nodes_in(root / "dev").items()} == {
        name: numbers[:2] for name, numbers in right.items()
    }
    _system("create-dev-char-symlinks", root)
    assert {path.name: os.readlink(path) for path in links.iterdir()} == {
        f"{major}:{minor}": f"/dev/{name}" for name, (major, minor, _) in right.items()
    }
