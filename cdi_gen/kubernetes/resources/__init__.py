# SPDX-License-Identifier: Apache-2.0
"""What a node advertises and what a container gets, decided from facts and settings without I/O.

``advertise`` divides the devices into resources, ``allocation`` answers Allocate, ``preference``
answers GetPreferredAllocation.
"""
