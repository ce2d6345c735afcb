# SPDX-License-Identifier: Apache-2.0
"""A GPU node of a Kubernetes cluster: the device plugin, the labels, the set-up of the node.

``settings`` reads what NVIDIA's device plugin reads: flags, environment and the config file.
``resources`` decides, without I/O, what the node advertises and what a container gets. ``plugin``
talks to the kubelet. ``probe`` asks the host in a process of its own, because NVML can hang and
cannot be loaded again after the driver has changed.
"""
