# SPDX-License-Identifier: Apache-2.0
"""Machines with eight GPUs, as ``nvidia-smi topo -m`` prints them; columns of other devices are left out.

The last column is the NUMA node. Where a pair has NVLinks the table does not show its PCIe level,
which is then that of two GPUs of the same NUMA node, or of different ones.
"""

from __future__ import annotations

from cdi_gen.inventory.properties import Link

LEVELS = {
    "PIX": "single-switch",
    "PXB": "multiple-switches",
    "PHB": "host-bridge",
    "NODE": "node",
    "SYS": "system",
}

# The hybrid cube mesh of DGX-1 and of Amazon's p3.16xlarge: six links for each GPU.
DGX_1_V100 = """
X   NV1 NV1 NV2 NV2 SYS SYS SYS 0
NV1 X   NV2 NV1 SYS NV2 SYS SYS 0
NV1 NV2 X   NV2 SYS SYS NV1 SYS 0
NV2 NV1 NV2 X   SYS SYS SYS NV1 0
NV2 SYS SYS SYS X   NV1 NV1 NV2 1
SYS NV2 SYS SYS NV1 X   NV2 NV1 1
SYS SYS NV1 SYS NV1 NV2 X   NV2 1
SYS SYS SYS NV1 NV2 NV1 NV2 X   1
"""

# https://github.com/NVIDIA/nccl/issues/1505
DGX_A100 = """
X    NV12 NV12 NV12 NV12 NV12 NV12 NV12 3
NV12 X    NV12 NV12 NV12 NV12 NV12 NV12 3
NV12 NV12 X    NV12 NV12 NV12 NV12 NV12 1
NV12 NV12 NV12 X    NV12 NV12 NV12 NV12 1
NV12 NV12 NV12 NV12 X    NV12 NV12 NV12 7
NV12 NV12 NV12 NV12 NV12 X    NV12 NV12 7
NV12 NV12 NV12 NV12 NV12 NV12 X    NV12 5
NV12 NV12 NV12 NV12 NV12 NV12 NV12 X    5
"""

# https://github.com/vllm-project/vllm/issues/13855
HGX_H100 = """
X    NV18 NV18 NV18 NV18 NV18 NV18 NV18 0
NV18 X    NV18 NV18 NV18 NV18 NV18 NV18 0
NV18 NV18 X    NV18 NV18 NV18 NV18 NV18 0
NV18 NV18 NV18 X    NV18 NV18 NV18 NV18 0
NV18 NV18 NV18 NV18 X    NV18 NV18 NV18 1
NV18 NV18 NV18 NV18 NV18 X    NV18 NV18 1
NV18 NV18 NV18 NV18 NV18 NV18 X    NV18 1
NV18 NV18 NV18 NV18 NV18 NV18 NV18 X    1
"""

# https://github.com/lattice/quda/issues/669
PCIE = """
X   PIX PXB PXB SYS SYS SYS SYS 0
PIX X   PXB PXB SYS SYS SYS SYS 0
PXB PXB X   PIX SYS SYS SYS SYS 0
PXB PXB PIX X   SYS SYS SYS SYS 0
SYS SYS SYS SYS X   PIX PXB PXB 1
SYS SYS SYS SYS PIX X   PXB PXB 1
SYS SYS SYS SYS PXB PXB X   PIX 1
SYS SYS SYS SYS PXB PXB PIX X   1
"""


def links(table: str) -> tuple[Link, ...]:
    """Return the connections of the GPUs of a table."""
    rows = [line.split() for line in table.split("\n") if line]
    count = len(rows)
    return tuple(
        Link(
            first=first,
            second=second,
            pcie=LEVELS.get(rows[first][second])
            or ("node" if rows[first][-1] == rows[second][-1] else "system"),
            nvlinks=int(rows[first][second].removeprefix("NV"))
            if rows[first][second].startswith("NV")
            else 0,
        )
        for first in range(count)
        for second in range(first + 1, count)
    )
