# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' published protocols; `make protocols` generates the messages from the .proto files.

The services are few and small, so they are written by hand in ``cdi_gen.kubernetes.plugin``.
"""
