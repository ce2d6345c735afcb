# SPDX-License-Identifier: Apache-2.0
"""NCCL's all-reduce, a process a GPU; with one GPU the one process."""

import tempfile

import absent

torch = absent.needed("torch")


def work(rank: int, size: int, store: str) -> None:
    torch.cuda.set_device(rank)
    # A file instead of a port: containers that run at the same time share the host's network.
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{store}", rank=rank, world_size=size
    )
    x = torch.full((1 << 20,), float(rank + 1), device="cuda")
    torch.distributed.all_reduce(x)
    assert x.eq(size * (size + 1) / 2).all()
    torch.distributed.destroy_process_group()
    print(f"rank {rank} of {size}: the sum is right", flush=True)


if __name__ == "__main__":
    count = torch.cuda.device_count()
    assert count, "no CUDA device"
    with tempfile.TemporaryDirectory() as directory:
        torch.multiprocessing.spawn(work, args=(count, f"{directory}/store"), nprocs=count)
    print("NCCL", ".".join(map(str, torch.cuda.nccl.version())))
