# SPDX-License-Identifier: Apache-2.0
"""Compares what containers get of hosts, inventories and specs: devices, nodes and files.

``contents`` takes the contents from a spec or an inventory, ``comparison`` compares two of them,
``text`` prints the differences. The package does no I/O.
"""
