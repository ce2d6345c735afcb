# SPDX-License-Identifier: Apache-2.0
"""Specs of other vendors' programs and of people's own hands, as public pages show them.

Each is rebuilt small from what its source shows, and keeps what is peculiar to it. Its
verdict is that of the standard's library, which `tests/parity/validation` asks again.
"""

from __future__ import annotations

from typing import NamedTuple

from cdi_base.cdi.libraries import EVERY, NONE, before


class PublicSpec(NamedTuple):
    """One of them."""

    source: str
    text: str
    refused_by: frozenset[str] = NONE
    told: tuple[str, ...] = ()
    """Parts of what `validate` says, in order."""
    device: str = ""
    shown: tuple[str, ...] = ()
    """Lines of `show` for that device."""


SPECS = {
    "amd-by-hand": PublicSpec(
        "ROCm/ROCm issue 3029: AMD GPUs, by paths alone",
        """\
cdiVersion: 0.5.0
kind: amd.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/kfd
    - path: /dev/dri/renderD128
- name: "all"
  containerEdits:
    deviceNodes:
    - path: /dev/kfd
    - path: /dev/dri/renderD128
    - path: /dev/dri/renderD130
""",
        told=("/dev/kfd has no type and major",),
        device="0",
        shown=(
            "device  /dev/kfd  as on the host  rwm",
            "device  /dev/dri/renderD128  as on the host  rwm",
        ),
    ),
    "amd-annotated": PublicSpec(
        "a scheduler's static AMD spec: annotations of each device, CDI 0.6.0",
        """\
{
  "cdiVersion": "0.6.0",
  "kind": "amd.com/gpu",
  "devices": [
    {
      "name": "0",
      "annotations": {"sched.example/render-minor": "128"},
      "containerEdits": {"deviceNodes": [{"path": "/dev/dri/renderD128"}]}
    }
  ]
}
""",
        refused_by=before("0.6.2"),
        told=(".cdiVersion: claims 0.6.0",),
        device="0",
        shown=("device  /dev/dri/renderD128  as on the host  rwm",),
    ),
    "intel-gpu": PublicSpec(
        "Intel's page on GPUs and CDI: a type without numbers, and /dev/dri/by-path mounted",
        """\
---
cdiVersion: 0.5.0
kind: intel.com/gpu
devices:
    - name: gpu0
      containerEdits:
        deviceNodes:
            - path: /dev/dri/card0
              hostPath: /dev/dri/card0
              type: c
        mounts:
            - hostPath: /dev/dri/by-path
              containerPath: /dev/dri/by-path
              options:
                - rw
                - rbind
              type: bind
""",
        told=("/dev/dri/card0 has no major",),
        device="gpu0",
        shown=(
            "device  /dev/dri/card0  c as on the host  rwm",
            "mount   /dev/dri/by-path  (writable)",
        ),
    ),
    "intel-qat": PublicSpec(
        "Intel's QAT driver for dynamic resource allocation: a VF's group, and vfio itself",
        """\
cdiVersion: 0.5.0
kind: intel.com/qat
devices:
- name: qatvf-0000-aa-00-1
  containerEdits:
    deviceNodes:
    - path: /dev/vfio/354
      type: c
- name: qatvf-vfio
  containerEdits:
    deviceNodes:
    - path: /dev/vfio/vfio
      type: c
""",
        told=("/dev/vfio/354 has no major", "/dev/vfio/vfio has no major"),
        device="qatvf-vfio",
        shown=("device  /dev/vfio/vfio  c as on the host  rwm",),
    ),
    "ascend-claim": PublicSpec(
        "Huawei's Ascend NPU driver, a claim's spec: fileMode is st_mode, with the type's bits",
        """\
cdiVersion: 0.8.0
kind: ascend.com/npu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/davinci0
      hostPath: /dev/davinci0
      type: c
      major: 503
      fileMode: 8624
containerEdits:
  env:
  - LD_LIBRARY_PATH=/usr/local/Ascend/driver/lib64/common
""",
        refused_by=before("0.8.1"),
        told=("claims 0.8.0; 0.5.0 is enough", "8624 has more than permission bits"),
        device="0",
        shown=(
            "env     LD_LIBRARY_PATH=/usr/local/Ascend/driver/lib64/common",
            "device  /dev/davinci0  c 503:0  rwm  mode 20660",
        ),
    ),
    "ascend-hooks": PublicSpec(
        "a report on an Ascend generator: hooks by their stage, as the OCI specification has them",
        """\
cdiVersion: 0.8.0
kind: huawei.com/npu
devices:
- name: "0"
  containerEdits:
    hooks:
      prestart:
      - hookName: ldconfig
        path: /sbin/ldconfig
      poststart: []
""",
        refused_by=EVERY,
        told=(".devices[0].containerEdits.hooks: must be a list, not an object",),
    ),
    "rebellions": PublicSpec(
        "Rebellions' toolkit: permissions without m, an indent of four",
        """\
cdiVersion: 0.5.0
kind: rebellions.ai/rds
devices:
    - name: rblnfs0
      containerEdits:
        deviceNodes:
            - path: /dev/rblnfs0
              hostPath: /dev/rblnfs0
              permissions: rw
""",
        told=("/dev/rblnfs0 has no type and major",),
        device="rblnfs0",
        shown=("device  /dev/rblnfs0  as on the host  rw",),
    ),
    "kata-passthrough": PublicSpec(
        "a page on Kata and GPUs passed through: a comment where edits could be",
        """\
kind: nvidia.com/pgpu
cdiVersion: 0.5.0
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/vfio/54
    # other possible keys: env, mounts, hooks, etc.
""",
        told=("/dev/vfio/54 has no type and major",),
        device="0",
        shown=("device  /dev/vfio/54  as on the host  rwm",),
    ),
    "hyperlight": PublicSpec(
        "a device plugin's page: JSON with // comments, which YAML takes for text",
        """\
{
  "cdiVersion": "0.6.0",
  "kind": "hyperlight.dev/hypervisor",
  "devices": [{"name": "kvm", "containerEdits": {
    "env": [
      "HYPERLIGHT_HYPERVISOR=kvm", // or mshv
      "HYPERLIGHT_DEVICE_PATH=/dev/kvm" // or /dev/mshv
    ]}}]
}
""",
        refused_by=before("0.6.2"),
        told=("claims 0.6.0; 0.3.0 is enough", "is an unusual name for a variable"),
        device="kvm",
        shown=(
            "env     HYPERLIGHT_HYPERVISOR=kvm",
            'env     // or mshv "HYPERLIGHT_DEVICE_PATH=/dev/kvm" // or /dev/mshv',
        ),
    ),
    "tpu": PublicSpec(
        "a TPU driver's claim: the newest version, and nothing that needs it",
        """\
{"cdiVersion": "1.1.0", "kind": "tpu.google.com/device", "devices": [{"name": "0",
 "containerEdits": {"deviceNodes": [{"path": "/dev/accel0", "hostPath": "/dev/accel0",
 "type": "c"}]}}]}
""",
        refused_by=before("1.1.0"),
        told=("claims 1.1.0; 0.5.0 is enough",),
        device="0",
        shown=("device  /dev/accel0  c as on the host  rwm",),
    ),
    "no-edits": PublicSpec(
        "moby/moby issue 47633: a device without edits, beside edits of the whole spec",
        """\
cdiVersion: 0.6.0
kind: spidernet.io/test
containerEdits:
  env:
  - LD="test"
devices:
  - name: demo1
""",
        refused_by=EVERY,
        told=(".devices[0].containerEdits: missing",),
    ),
    "pods-grammar": PublicSpec(
        "a NixOS configuration: edits as a list, variables as a pod has them",
        """\
cdiVersion: "0.3.0"
kind: nvidia.com/gpu
devices:
- containerEdits:
  - env:
    - name: NVIDIA_VISIBLE_DEVICES
      value: all
  - deviceNodes:
    - hostPath: /dev/nvidia0
      permissions: rwm
""",
        refused_by=EVERY,
        told=(
            ".devices[0].name: missing",
            ".devices[0].containerEdits: must be an object, not a list",
        ),
    ),
    "hook-key": PublicSpec(
        "an image builder's page: hook in the place of hookName",
        """\
cdiVersion: 0.6.0
kind: vendor.com/device
devices:
  - name: gpu0
    containerEdits:
      deviceNodes:
        - path: /dev/dri/card0
      hooks:
        - hook: createRuntime
          path: /usr/bin/nvidia-ctk
""",
        refused_by=EVERY,
        told=("hooks[0].hook: unknown field", "hooks[0].hookName: missing"),
    ),
    "claims-less": PublicSpec(
        "NVIDIA/nvidia-container-toolkit issue 38: 0.4.0 with hostPath",
        """\
---
cdiVersion: 0.4.0
kind: nvidia.com/gpu
devices:
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: /dev/nvidia0
""",
        refused_by=EVERY,
        told=("claims 0.4.0, but needs 0.5.0 for hostPath of a device node",),
    ),
    "kubernetes-e2e": PublicSpec(
        "Kubernetes' test driver for dynamic resource allocation: a claim's variables alone",
        '{"cdiVersion":"0.3.0","kind":"test-driver.cdi.k8s.io/test","devices":[{"name":'
        '"claim-4d9f8e2a-5c1b-4f67-9d3e-000000000001","containerEdits":{"env":["user_a=b"]}}]}',
        device="claim-4d9f8e2a-5c1b-4f67-9d3e-000000000001",
        shown=("env     user_a=b",),
    ),
    "hook-alone": PublicSpec(
        "a program for Nix environments: a hook, without an environment of its own",
        '{"cdiVersion":"0.6.0","kind":"nix-direnv.example/env","devices":[{"name":"dir",'
        '"containerEdits":{"hooks":[{"hookName":"createRuntime","path":"/usr/bin/nix-cdi",'
        '"args":["nix-direnv-cdi","hook"]}]}}]}\n',
        refused_by=before("0.6.2"),
        told=("claims 0.6.0; 0.3.0 is enough", "has no environment of its own"),
        device="dir",
        shown=("hook    createRuntime: /usr/bin/nix-cdi hook (as nix-direnv-cdi)",),
    ),
    "no-bind": PublicSpec(
        "two pages that tell how to write one: a mount with ro alone, a mount without options",
        """\
{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": "gpu0", "containerEdits":
 {"mounts": [{"hostPath": "/usr/lib/nvidia", "containerPath": "/usr/lib/nvidia",
 "options": ["ro"]}, {"hostPath": "/usr/lib64/libcuda.so.1",
 "containerPath": "/usr/lib/libcuda.so.1"}]}}]}
""",
        told=(
            "2 of 2 mounts have no 'type: bind'",
            "mounts[0].options: has neither 'bind' nor 'rbind'",
            "mounts[1].options: has neither 'bind' nor 'rbind'",
        ),
        device="gpu0",
        shown=(
            "mount   /usr/lib/nvidia",
            "mount   /usr/lib/libcuda.so.1  from /usr/lib64/libcuda.so.1  (writable)",
        ),
    ),
    "fixture": PublicSpec(
        "tests of several projects: a kind and no device, to see whether a spec is there",
        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []\n",
        refused_by=EVERY - before("1.0.1"),
        told=(".devices: the spec has no device",),
    ),
    "draft": PublicSpec(
        "the standard's first drafts, still copied: devicePath and containerSpec",
        """\
{
  "cdiVersion": "0.4.0",
  "kind": "vendor.com/device",
  "devices": [{"name": "myDevice", "devicePath": "/dev/vendor0"}],
  "containerSpec": [{"mounts": [{"hostPath": "/a", "containerPath": "/b"}]}]
}
""",
        refused_by=EVERY,
        told=("devicePath: unknown field", ".containerSpec: unknown field"),
    ),
    "anchors": PublicSpec(
        "Compose files' way with common parts, as people carry it over: <<, with a key changed",
        """\
cdiVersion: "0.5.0"
kind: example.com/camera
devices:
  - name: front
    containerEdits:
      deviceNodes:
        - &node {path: /dev/video0, type: c, major: 81, minor: 0, permissions: rw}
  - name: back
    containerEdits:
      deviceNodes:
        - {<<: *node, path: /dev/video1, minor: 1}
""",
        refused_by=EVERY - {"1.1.1"},
        told=("<< merges key",),
        device="back",
        shown=("device  /dev/video1  c 81:1  rw",),
    ),
    "windows": PublicSpec(
        "a file that was edited on Windows: a byte order mark, CR LF, a tab before a comment",
        "\ufeffcdiVersion: 0.5.0\r\nkind: example.com/serial\r\ndevices:\r\n- name: usb0\t# ttyUSB\r\n"
        "  containerEdits:\r\n    deviceNodes:\r\n    - path: /dev/ttyUSB0\r\n      type: c\r\n"
        "      major: 188\r\n",
        device="usb0",
        shown=("device  /dev/ttyUSB0  c 188:0  rwm",),
    ),
    "tabs": PublicSpec(
        "the same with tabs for indents",
        "cdiVersion: 0.5.0\nkind: example.com/serial\ndevices:\n\t- name: usb0\n",
        refused_by=EVERY,
        told=("line 4",),
    ),
}
