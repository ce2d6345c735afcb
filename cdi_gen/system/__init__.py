# SPDX-License-Identifier: Apache-2.0
"""Makes what the driver leaves to programs: device nodes, and links in ``/dev/char``.

NVIDIA's modules create no nodes by themselves: ``nvidia-modprobe`` does, when a program first uses
the driver. ``driver_nodes`` says which nodes the kernel's facts ask for, without I/O on ``/dev``;
``device_nodes`` creates them, ``dev_char`` links them, ``modules`` loads kernel modules.
"""
