# SPDX-License-Identifier: Apache-2.0
"""Configurations of engines out of public reports, and what `setup-node` makes of them."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.engines.text import toml_text
from cdi_gen.kubernetes.node import setup
from tests.cli.program import Result
from tests.kubernetes import host_trees
from tests.kubernetes.host_trees import HostTree
from tests.kubernetes.kubelet import wait_until
from tests.kubernetes.test_setup_node_faults import Host
from tests.kubernetes.test_setup_node_hosts import bundle, set_up, tree

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the programs are for x86-64"),
]
__all__ = ["bundle", "set_up", "tree"]

SetUp = Callable[..., Result]

CRI = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
CRI[4] = CRI[3]
DROP_IN = "/etc/containerd/conf.d/99-nvidia.toml"
RKE2 = "/var/lib/rancher/rke2/agent/etc/containerd"


def dumped(version: int) -> str:
    """The beginning of a file that ``containerd config default`` has written."""
    cri = CRI[version]
    return f"""\
disabled_plugins = []
imports = ["/etc/containerd/conf.d/*.toml"]
oom_score = 0
version = {version}

[plugins]
  [plugins."{cri}"]
    enable_cdi = true
    [plugins."{cri}".containerd]
      default_runtime_name = "runc"
      [plugins."{cri}".containerd.runtimes]
        [plugins."{cri}".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          [plugins."{cri}".containerd.runtimes.runc.options]
            BinaryName = ""
            SystemdCgroup = true
"""


AZURE = """\
version = 2
oom_score = -999
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
WITHOUT_RUNTIMES = """\
version = 3
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
"""
IMPORTS_ITSELF = """\
imports = ["/etc/containerd/config.toml"]
version = 2
"""

FILES = {
    "NVIDIA/gpu-operator#2646 (2026): version 2, and containerd 2.3 migrates it": (AZURE, 2),
    "NVIDIA/gpu-operator#2596 (2026): version 4 of containerd 2.3": (dumped(4), 4),
    "NVIDIA/nvidia-container-toolkit#1956 (2026): no runtime to copy": (WITHOUT_RUNTIMES, 3),
    "berops/claudie#1786 (2025): a file that imports itself": (IMPORTS_ITSELF, 2),
}


def parsed(tree: HostTree, path: str) -> Any:
    return toml_text.parse(tree.read(path))


def handlers(tree: HostTree, path: str) -> tuple[int, dict[str, Any]]:
    """Return the version of a file and the handlers in it."""
    document = parsed(tree, path)
    version = document["version"]
    return version, document["plugins"][CRI[version]]["containerd"]["runtimes"]


@pytest.mark.parametrize(("text", "version"), FILES.values(), ids=FILES)
def test_the_drop_in_has_the_version_of_the_file_and_whole_handlers(
    tree: HostTree, set_up: SetUp, text: str, version: int
) -> None:
    tree.containerd("2.3.2")
    tree.program("/usr/bin/runc", "runc version 1.3.0")
    tree.write("/etc/containerd/config.toml", text)
    before = tree.files()
    result = set_up()
    assert result.code == 0, result.err
    written, runtimes = handlers(tree, DROP_IN)
    assert written == version
    assert runtimes.keys() == {"nvidia", "nvidia-cdi", "nvidia-legacy"}
    for runtime in runtimes.values():
        assert runtime["runtime_type"] == "io.containerd.runc.v2"
        assert runtime["options"]["BinaryName"].startswith("/usr/local/nvidia/toolkit/")
    document = parsed(tree, "/etc/containerd/config.toml")
    assert document["imports"].count("/etc/containerd/conf.d/*.toml") == 1
    assert set_up("--undo").code == 0
    assert tree.files() == before


def test_the_default_handler_of_rke2_survives_its_next_start(tree: HostTree, set_up: SetUp) -> None:
    """rancher/rke2#8752 (2025): CONTAINERD_CONFIG names the file that RKE2 generates."""
    host_trees.rke2(tree)
    generated = tree.read(f"{RKE2}/config.toml")
    result = set_up(f"--config={RKE2}/config.toml", "--set-as-default")
    assert result.code == 0, result.err
    assert tree.read(f"{RKE2}/config.toml") == generated
    document = parsed(tree, f"{RKE2}/config-v3.toml.d/99-nvidia.toml")
    assert document["plugins"][CRI[3]]["containerd"]["default_runtime_name"] == "nvidia"


def test_the_containerd_of_k0s_decides_about_its_drop_in(tree: HostTree, set_up: SetUp) -> None:
    """NVIDIA/gpu-operator#1323 (2025): the host's `containerd` is of another version than k0s's."""
    host_trees.k0s(tree)
    tree.containerd("1.7.24")
    path = "/etc/k0s/containerd.d/nvidia.toml"
    result = set_up(f"--config={path}", "--socket=/run/k0s/containerd.sock")
    assert result.code == 0, result.err
    version, runtimes = handlers(tree, path)
    assert (version, "nvidia" in runtimes) == (3, True)


def test_crio_of_an_rke2_node_reads_the_drop_in(tree: HostTree, set_up: SetUp) -> None:
    """NVIDIA/gpu-operator#2236 (2026): the file was in /etc/crio/conf.d, which CRI-O ignores."""
    host_trees.rke2(tree)
    host_trees.crio(tree)
    result = set_up("--runtime=crio")
    assert result.code == 0, result.err
    assert "crio.runtime.runtimes.nvidia" in tree.read("/etc/crio/crio.conf.d/99-nvidia.toml")
    assert not tree.path(f"{RKE2}/config-v3.toml.d").exists()


@pytest.mark.parametrize("lost", ["/etc/containerd/config.toml", DROP_IN])
def test_handlers_that_another_program_removes_are_registered_again(
    tree: HostTree, bundle: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """NVIDIA/gpu-operator#1651 (2025): the node's own management writes config.toml again."""
    monkeypatch.setattr(setup, "CHECK_SECONDS", 0.05)
    host_trees.kubeadm(tree)
    before = tree.files()
    text = tree.read("/etc/containerd/config.toml")
    host = Host(tree, bundle)
    node = host.node_setup(wait=True)
    thread = threading.Thread(target=node.run)
    thread.start()
    try:
        wait_until(lambda: "CDG-N411" in host.codes())
        configured = tree.read(lost)
        if lost == DROP_IN:
            tree.path(lost).unlink()
        else:
            tree.write(lost, text)
        wait_until(lambda: host.codes().count("CDG-N411") == 2)
        assert tree.read(lost) == configured
        # Once more at once: the engine is not restarted again and again.
        tree.write("/etc/containerd/config.toml", text)
        time.sleep(0.5)
        assert host.codes().count("CDG-N411") == 2
    finally:
        host.stopped.set()
        thread.join(30)
    assert tree.files() == before
