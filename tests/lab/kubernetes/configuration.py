# SPDX-License-Identifier: Apache-2.0
"""The configuration files of a node and of a control plane, as text.

Everything has a fixed address, because a node has a network namespace of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NODE = "lab-node"
NODE_ADDRESS = "10.77.0.1"
"""On the loopback interface; kubelet refuses 127.0.0.1."""
SERVICE_ADDRESS = "10.78.0.1"
"""Of the API server as a service, on the loopback interface too: pods reach it without kube-proxy."""
SERVICE_NETWORK = "10.78.0.0/24"
POD_NETWORK = "10.79.0.0/24"

PAUSE = "localhost/pause:lab"
CNI_PROGRAMS = "/usr/lib/cni"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CRIO_SOCKET = "/run/crio/crio.sock"
STATIC_PODS = "/etc/kubernetes/manifests"
SPEC_DIRECTORIES = ("/etc/cdi", "/var/run/cdi")

TOKENS = {
    "admin": ("admin", ("system:masters",)),
    "node": (f"system:node:{NODE}", ("system:nodes",)),
    "scheduler": ("system:kube-scheduler", ()),
    "controller-manager": ("system:kube-controller-manager", ()),
}
"""Users of the API server by their token: the name and the groups."""

SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet would set on the whole machine if it did not read these values."""

# restrict_oom_score_adj: root of a build machine may lack CAP_SYS_RESOURCE.
_CONTAINERD_2 = f"""\
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  cdi_spec_dirs = {json.dumps(SPEC_DIRECTORIES)}
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{CNI_PROGRAMS}"]
"""
# 1.7 ignores CDI devices without a word unless enable_cdi is set.
_CONTAINERD_1 = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  enable_cdi = true
  cdi_spec_dirs = {json.dumps(SPEC_DIRECTORIES)}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
[plugins."io.containerd.nri.v1.nri"]
  disable = false
"""

# A drop-in, as in CRI-O's own packages. drop_infra_ctr: a pause container gets an OOM score for
# which root of a build machine may lack CAP_SYS_RESOURCE.
_CRIO = f"""\
[crio.image]
pause_image = "{PAUSE}"
signature_policy = "/etc/containers/policy.json"

[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
drop_infra_ctr = true
cdi_spec_dirs = {json.dumps(SPEC_DIRECTORIES)}

[crio.runtime.runtimes.runc]
runtime_path = "/usr/sbin/runc"
monitor_path = "/usr/bin/conmon"
monitor_cgroup = "pod"

[crio.network]
plugin_dirs = ["{CNI_PROGRAMS}"]
"""
_ACCEPT_ALL_IMAGES = '{"default": [{"type": "insecureAcceptAnything"}]}'


def containerd(version: str) -> str:
    """Return the config.toml of a release of containerd that a kubelet can use."""
    return _CONTAINERD_1 if version == "1.7" else _CONTAINERD_2


def crio() -> dict[str, str]:
    """Return the files by which CRI-O is one that a kubelet can use."""
    return {
        "/etc/crio/crio.conf.d/10-crio.conf": _CRIO,
        "/etc/containers/policy.json": _ACCEPT_ALL_IMAGES,
    }


def cni() -> str:
    """Return the configuration of the one network of pods, a bridge on the node."""
    ranges = [[{"subnet": POD_NETWORK}]]
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "lab", "plugins": [bridge]})


def kubelet(engine_socket: str, changes: Mapping[str, Any]) -> str:
    """Return kubelet's configuration file; ``changes`` are keys that differ from the lab's."""
    configuration = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{engine_socket}",
        "address": "0.0.0.0",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
        # A full disk of the machine is no reason to delete images or to evict pods.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "staticPodPath": STATIC_PODS,
        "fileCheckFrequency": "1s",
        "syncFrequency": "2s",
        "nodeStatusUpdateFrequency": "1s",
        **changes,
    }
    return json.dumps(configuration)


def tokens() -> str:
    """Return the API server's token file."""
    lines = []
    for number, (token, (user, groups)) in enumerate(TOKENS.items(), 1):
        lines.append(",".join((token, user, str(number), *groups)))
    return "\n".join(lines) + "\n"


def kubeconfig(user: str, certificate: str) -> str:
    """Return the file by which a user of ``TOKENS`` finds the API server."""
    cluster = {"server": f"https://{NODE_ADDRESS}:443", "certificate-authority": certificate}
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": user}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
    }
    return json.dumps(configuration)


def write_sysctls(folder: Path) -> dict[str, Path]:
    """Write a file with the value of each of ``SYSCTLS``; returns it by its path in the node."""
    files = {}
    for name, value in SYSCTLS.items():
        file = folder / name.replace("/", ".")
        file.write_text(f"{value}\n", "ascii")
        files[f"/proc/sys/{name}"] = file
    return files


def write_controllers(file: Path) -> dict[str, Path]:
    """Write a ``/proc/cgroups`` without controllers that no hierarchy has; returns it by its path.

    CRI-O limits huge pages wherever the kernel has this controller, mounted or not.
    """
    head, *lines = Path("/proc/cgroups").read_text("ascii").splitlines()
    mounted = [line for line in lines if line.split()[1] != "0"]
    file.write_text("\n".join([head, *(mounted or lines), ""]), "ascii")
    return {"/proc/cgroups": file}
