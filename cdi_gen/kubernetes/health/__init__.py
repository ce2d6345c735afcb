# SPDX-License-Identifier: Apache-2.0
"""Finds out which devices must not be used, and when they may be used again.

``watch`` is a process that waits for NVML's events and checks the GPUs; ``process`` runs it and
notices when it hangs; ``judge`` decides, without I/O, what an event or a check means for devices;
``xids`` has NVIDIA's catalogue of Xid errors.
"""
