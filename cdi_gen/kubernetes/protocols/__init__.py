# SPDX-License-Identifier: Apache-2.0
"""Published protocols of Kubernetes and NRI; `make protocols` generates them from the .proto files.

The services are few and small, so they are written by hand, in ``plugin/`` and ``nri/``.
"""
