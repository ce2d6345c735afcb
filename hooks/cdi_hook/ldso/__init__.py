# SPDX-License-Identifier: Apache-2.0
"""The dynamic loader's configuration and cache in a container."""
