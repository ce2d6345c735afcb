# SPDX-License-Identifier: Apache-2.0
"""Says why a container gets no GPU.

`readers` lists the engines of a host as readers of specs, `lookup` replays how one of them resolves
a device name, and `start` checks what a container with the device would need from the host.
"""
