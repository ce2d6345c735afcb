# SPDX-License-Identifier: Apache-2.0
"""PyTorch's DistributedDataParallel for so many seconds, a process a GPU: ``ddp.py SECONDS``.

Each rank has data of its own, so the parameters stay equal only by the all-reduce of gradients.
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
BETWEEN_LOOKS = 50


def work(rank, size, seconds):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29519"}
    torch.cuda.set_device(rank)
    torch.distributed.init_process_group("nccl", rank=rank, world_size=size)
    torch.manual_seed(rank)  # DDP hands rank 0's parameters to all
    layers = [torch.nn.Linear(WIDTH, WIDTH), torch.nn.GELU()] * 4
    model = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, CLASSES)).cuda()
    model = torch.nn.parallel.DistributedDataParallel(model, device_ids=[rank])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    directions = torch.randn(WIDTH, CLASSES, generator=torch.Generator().manual_seed(7)).cuda()
    begun, steps, first, last, going = time.monotonic(), 0, 0.0, 0.0, True
    while going:
        for _ in range(BETWEEN_LOOKS):
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
        # Every rank has to stop after the same step.
        end = torch.tensor([float(time.monotonic() - begun < seconds)], device="cuda")
        torch.distributed.all_reduce(end, torch.distributed.ReduceOp.MIN)
        going = bool(end.item())
    sums = torch.stack([each.double().sum() for each in model.parameters()])
    gathered = [torch.empty_like(sums) for _ in range(size)]
    torch.distributed.all_gather(gathered, sums)
    assert all(each.equal(sums) for each in gathered), "the parameters differ"
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
