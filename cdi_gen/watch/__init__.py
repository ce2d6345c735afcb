# SPDX-License-Identifier: Apache-2.0
"""Keeps the specs right while the host changes: ``cdi-gen watch``.

``host_state`` reads what a change of the host changes, in a fraction of a millisecond; ``loop``
compares it every two seconds, and at once if ``uevents`` or inotify report something; ``refresher``
runs the refresh. NVML is not used, and no file of the driver stays open, so that the driver can be
unloaded, replaced, and a GPU reset or divided while the process runs
(``docs/decisions/0010-watch-without-nvml.md``).
"""
