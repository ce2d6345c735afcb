# SPDX-License-Identifier: Apache-2.0
"""Serves pages over HTTP: listeners, TLS, basic authentication, limits.

The configuration file is that of Prometheus's exporter-toolkit.
"""
