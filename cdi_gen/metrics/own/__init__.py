# SPDX-License-Identifier: Apache-2.0
"""What cdi-gen knows of itself: whether the specs are fresh, doctor's findings, the device plugin.

Each of the three is examined by a process of its own with low priority (``__main__``), when
attributes of files show a change, and from time to time (``schedule``). No pass over the GPUs waits
for it, and the service has none of its modules in memory.
"""
