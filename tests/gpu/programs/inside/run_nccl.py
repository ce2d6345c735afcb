# SPDX-License-Identifier: Apache-2.0
"""NCCL's all-reduce, a process a GPU; with one GPU the one process."""

import os

import absent

torch = absent.needed("torch")


def work(rank: int, size: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    torch.cuda.set_device(rank)
    torch.distributed.init_process_group("nccl", rank=rank, world_size=size)
    x = torch.full((1 << 20,), float(rank + 1), device="cuda")
    torch.distributed.all_reduce(x)
    assert x.eq(size * (size + 1) / 2).all()
    torch.distributed.destroy_process_group()
    print(f"rank {rank} of {size}: the sum is right", flush=True)


if __name__ == "__main__":
    count = torch.cuda.device_count()
    assert count, "no CUDA device"
    torch.multiprocessing.spawn(work, args=(count,), nprocs=count)
    print("NCCL", ".".join(map(str, torch.cuda.nccl.version())))
