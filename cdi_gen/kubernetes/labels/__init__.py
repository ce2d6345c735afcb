# SPDX-License-Identifier: Apache-2.0
"""Labels of a node that describe its GPUs: those of NVIDIA's gpu-feature-discovery.

``node_labels`` and ``resource_labels`` are pure. The loop asks the host by the package ``probe``.
"""

from cdi_gen.kubernetes.labels.node_labels import labels, labels_findings
from cdi_gen.kubernetes.labels.resource_labels import Labels

__all__ = ["Labels", "labels", "labels_findings"]
