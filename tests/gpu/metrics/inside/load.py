# SPDX-License-Identifier: Apache-2.0
"""A load of known size: ``load.py matmul|idle GIBIBYTES READY_FILE``.

Both allocate the memory; ``idle`` then sleeps, ``matmul`` keeps the GPU busy without a pause.
READY_FILE is written when the load has begun.
"""

import sys
import time

import torch


def main(kind: str, gibibytes: str, ready_file: str) -> None:
    """Never return: the container is killed."""
    buffer = torch.zeros(int(float(gibibytes) * 2**30), dtype=torch.uint8, device="cuda")
    size = 8192 if kind == "matmul" else 1
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = torch.mm(left, right)
    torch.cuda.synchronize()
    with open(ready_file, "w", encoding="ascii") as file:
        file.write(f"{torch.__version__} {torch.cuda.get_device_name()} {buffer.numel()}\n")
    while True:
        if kind == "matmul":
            # Enough work that the GPU never waits for the next call.
            for _ in range(100):
                torch.mm(left, right, out=product)
            torch.cuda.synchronize()
        else:
            time.sleep(1)


main(*sys.argv[1:])
