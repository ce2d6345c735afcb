# SPDX-License-Identifier: Apache-2.0
"""Configurations of Docker and containerd as people have them: each modelled on a public report or file."""

from __future__ import annotations

TOOLKIT = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
SHIM = "/usr/bin/nvidia-container-runtime"
V2 = "io.containerd.grpc.v1.cri"
V3 = "io.containerd.cri.v1.runtime"

DAEMON_JSON = {
    # Many guides to Jetson, Riva and Kerberos Vault.
    "the default, by name": '{   \n    "default-runtime": "nvidia",\n        "runtimes": {\n'
    '        "nvidia": {\n            "path": "nvidia-container-runtime",\n'
    '            "runtimeArgs": []\n        }\n    }\n}\n',
    # NVIDIA/nvidia-container-toolkit#15.
    "crun is the default": '{\n    "default-runtime": "crun",\n    "runtimes": {\n'
    '        "nvidia": {\n            "path": "nvidia-container-runtime",\n'
    '            "runtimeArgs": []\n        },\n        "crun": {\n'
    '            "path": "/usr/local/bin/crun"\n        }\n    }\n}\n',
    # A machine of a laboratory, with pools, logs and another root.
    "much else": '{\n    "data-root": "/home/docker",\n    "bip": "10.254.0.1/24",\n'
    '    "default-address-pools": [\n        {"base":"10.253.0.0/16","size":24}\n    ],\n'
    '    "exec-opts": ["native.cgroupdriver=systemd"],\n    "log-opts": {"max-size": "10m"},\n'
    '    "features": {"buildkit": true, "containerd-snapshotter": false},\n'
    '    "runtimes": { "nvidia": { "args": [], "path": "nvidia-container-runtime" } },\n'
    '    "dns": ["172.17.0.1"]\n}\n',
}

CONTAINERD = {
    # NVIDIA/gpu-operator#1374: Kubespray 1.32, after NVIDIA's operator.
    "kubespray, both spellings": f"""\
version = 3
imports = ["CONF.D/*.toml"]
[plugins."{V3}".containerd]
default_runtime_name = "runc"
[plugins."{V3}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "/etc/containerd/cri-base.json"
[plugins."{V3}".containerd.runtimes.runc.options]
binaryName = "/usr/local/bin/runc"
systemdCgroup = true
[plugins."{V3}".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "/etc/containerd/cri-base.json"
[plugins."{V3}".containerd.runtimes.nvidia.options]
BinaryName = "{TOOLKIT}"
Root = ""
binaryName = "/usr/local/bin/runc"
systemdCgroup = true
""",
    # NVIDIA/cloud-native-stack#142: Kubespray 2.31, containerd 2.3.1 with a file of version 3.
    "kubespray, version last": f"""\
imports = ["CONF.D/*.toml"]
oom_score = 0
root = "/var/lib/containerd"
state = "/run/containerd"
version = 3
[plugins."{V3}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."{V3}".containerd.runtimes.runc.options]
systemdCgroup = true
""",
    # The same report, as it would be on a host that was never migrated.
    "version 1 on any containerd": """\
version = 1
[plugins.cri]
sandbox_image = "registry.k8s.io/pause:3.9"
[plugins.cri.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
""",
    # awslabs/amazon-eks-ami#1974: what `config dump` printed, saved as the configuration.
    "a dump that imports itself": f"""\
disabled_plugins = []
imports = ["CONFIG"]
oom_score = 0
plugin_dir = ""
version = 2
[plugins]
  [plugins."{V2}"]
    cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
    enable_cdi = false
    [plugins."{V2}".containerd]
      default_runtime_name = "runc"
      [plugins."{V2}".containerd.default_runtime]
        runtime_root = ""
        runtime_type = ""
        [plugins."{V2}".containerd.default_runtime.options]
      [plugins."{V2}".containerd.runtimes]
        [plugins."{V2}".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          [plugins."{V2}".containerd.runtimes.runc.options]
            BinaryName = ""
            SystemdCgroup = true
""",
    # k3s-io/k3s#5860 and the Omniverse manual: tables in no order, and a runtime of type runc.v1.
    "by hand, in no order": f"""\
version = 2
[plugins]
  [plugins."{V2}"]
    [plugins."{V2}".containerd]
      snapshotter = "overlayfs"
      [plugins."{V2}".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
      [plugins."{V2}".containerd.runtimes.gpu]
    runtime_type = "io.containerd.runc.v2"
      [plugins."{V2}".containerd.runtimes.gpu.options]
    BinaryName = "{TOOLKIT}"
    SystemdCgroup = true


  [plugins."{V2}".cni]
    bin_dir = "/opt/cni/bin"
""",
    # NVIDIA/nvidia-docker#1788: only NVIDIA's runtime, the default.
    "nvidia alone": f"""\
version = 2
[plugins]
  [plugins."{V2}"]
    [plugins."{V2}".containerd]
      default_runtime_name = "nvidia"

      [plugins."{V2}".containerd.runtimes]
        [plugins."{V2}".containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_engine = ""
          runtime_root = ""
          runtime_type = "io.containerd.runc.v2"

          [plugins."{V2}".containerd.runtimes.nvidia.options]
            BinaryName = "{SHIM}"
            SystemdCgroup = true
""",
}
