# SPDX-License-Identifier: Apache-2.0
"""Keeps the CDI specs of a host up to date, and tells whether they are.

``cdi_gen.refresh.update`` has `refresh`, ``cdi_gen.refresh.staleness`` the comparison of the specs
that engines read with the host. Importing the package loads neither.
"""
