# SPDX-License-Identifier: Apache-2.0
"""Where the kubelets of distributions keep their directory."""

DIRECTORIES = (
    "/var/lib/kubelet", "/var/lib/k0s/kubelet", "/var/snap/microk8s/common/var/lib/kubelet",
)  # fmt: skip
"""Where distributions keep the directory; most use the first."""
