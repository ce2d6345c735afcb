# SPDX-License-Identifier: Apache-2.0
"""Plugin of the Node Resource Interface (NRI): CDI devices for pods by an annotation.

NRI is part of containerd and CRI-O. A plugin needs no change of their configuration.
"""
