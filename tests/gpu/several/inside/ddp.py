# SPDX-License-Identifier: Apache-2.0
"""PyTorch's DistributedDataParallel, one process for each GPU: ``ddp.py SECONDS``.

Every rank has its own data. The parameters stay equal only because gradients are all-reduced.
"""

import os
import sys
import time

try:
    import torch
except ModuleNotFoundError as error:
    print(error)
    sys.exit(77)

WIDTH, BATCH, CLASSES = 2048, 1024, 16
STEPS_BETWEEN_CHECKS = 50


def work(rank: int, size: int, seconds: float) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29519"}
    torch.cuda.set_device(rank)
    torch.distributed.init_process_group("nccl", rank=rank, world_size=size)
    torch.manual_seed(rank)  # DDP copies the parameters of rank 0 to all
    layers = [layer for _ in range(4) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.GELU())]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, CLASSES)).cuda()
    model = torch.nn.parallel.DistributedDataParallel(model, device_ids=[rank])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    directions = torch.randn(WIDTH, CLASSES, generator=torch.Generator().manual_seed(7)).cuda()
    begun, steps, first, last, going = time.monotonic(), 0, 0.0, 0.0, True
    loss = torch.zeros(1)
    while going:
        for _ in range(STEPS_BETWEEN_CHECKS):
            inputs = torch.randn(BATCH, WIDTH, device="cuda")
            with torch.autocast("cuda", torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(
                    model(inputs), (inputs @ directions).argmax(1)
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            first = first or loss.item()
        last = loss.item()
        # All ranks have to stop after the same step.
        end = torch.tensor([float(time.monotonic() - begun < seconds)], device="cuda")
        torch.distributed.all_reduce(end, torch.distributed.ReduceOp.MIN)
        going = bool(end.item())
    sums = torch.stack([parameter.double().sum() for parameter in model.parameters()])
    gathered = [torch.empty_like(sums) for _ in range(size)]
    torch.distributed.all_gather(gathered, sums)
    assert all(other.equal(sums) for other in gathered), "the parameters differ"
    assert last < first, f"the loss did not fall: {first} {last}"
    torch.distributed.destroy_process_group()
    taken = time.monotonic() - begun
    sys.stdout.write(
        f"rank {rank} of {size}: {steps} steps in {taken:.0f} s, loss {first:.2f} -> {last:.2f}, "
        "parameters equal\n"
    )


if __name__ == "__main__":
    count = torch.cuda.device_count()
    assert count, "no CUDA device"
    torch.multiprocessing.spawn(work, args=(count, float(sys.argv[1])), nprocs=count)
