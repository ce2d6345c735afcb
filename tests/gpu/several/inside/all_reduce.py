# SPDX-License-Identifier: Apache-2.0
"""NCCL's all-reduce, called without a framework.

    all_reduce.py here               a process for each GPU that CUDA lists
    all_reduce.py RANK SIZE FILE     one rank; rank 0 writes NCCL's unique id to FILE

A rank uses the GPU with the rank's number, or GPU 0 if CUDA lists fewer GPUs.
"""

import ctypes
import importlib.util
import os
import struct
import subprocess
import sys
import tempfile
import time

ABSENT = 77
COUNT = 1 << 26
"""Elements of 4 bytes each, 256 MiB in all."""
ROUNDS = 20
PATIENCE = 40
FLOAT, SUM = 7, 0
"""ncclFloat32, ncclSum."""


class UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_char * 128)]


def nccl_library() -> str:
    """Return the path of PyTorch's NCCL, or the name for the loader."""
    try:
        package = importlib.util.find_spec("nvidia.nccl")
    except ModuleNotFoundError:
        package = None
    if package and package.submodule_search_locations:
        for folder in package.submodule_search_locations:
            path = os.path.join(folder, "lib", "libnccl.so.2")
            if os.path.exists(path):
                return path
    return "libnccl.so.2"


def check(what: str, code: int) -> None:
    if code:
        sys.exit(f"{what}: error {code}")


def device_count() -> int:
    cuda = ctypes.CDLL("libcuda.so.1")
    count = ctypes.c_int()
    check("cuInit", cuda.cuInit(0))
    check("cuDeviceGetCount", cuda.cuDeviceGetCount(ctypes.byref(count)))
    return count.value


def unique_id(nccl: ctypes.CDLL, rank: int, path: str) -> UniqueId:
    """Create the id as rank 0; as another rank wait for it."""
    value = UniqueId()
    if rank == 0:
        check("ncclGetUniqueId", nccl.ncclGetUniqueId(ctypes.byref(value)))
        with open(f"{path}.new", "wb") as file:
            file.write(bytes(value))
        os.rename(f"{path}.new", path)
        return value
    end = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        if time.monotonic() > end:
            sys.exit(f"rank 0 did not write {path}")
        time.sleep(0.02)
    with open(path, "rb") as file:
        return UniqueId.from_buffer_copy(file.read())


def one_rank(rank: int, size: int, path: str) -> None:
    try:
        nccl = ctypes.CDLL(nccl_library())
    except OSError as error:
        print(error)
        sys.exit(ABSENT)
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    number = rank if rank < device_count() else 0
    check("cuDeviceGet", cuda.cuDeviceGet(ctypes.byref(device), number))
    check("cuDevicePrimaryCtxRetain", cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    check("cuCtxSetCurrent", cuda.cuCtxSetCurrent(context))
    source, target = ctypes.c_uint64(), ctypes.c_uint64()
    for memory in (source, target):
        check("cuMemAlloc", cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(4 * COUNT)))
    bits = struct.unpack("I", struct.pack("f", rank + 1))[0]
    check("cuMemsetD32", cuda.cuMemsetD32_v2(source, ctypes.c_uint(bits), ctypes.c_size_t(COUNT)))
    check("cuCtxSynchronize", cuda.cuCtxSynchronize())

    communicator = ctypes.c_void_p()
    nccl.ncclGetErrorString.restype = ctypes.c_char_p
    nccl.ncclCommInitRank.argtypes = (
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_int,
        UniqueId,
        ctypes.c_int,
    )
    begun = time.monotonic()
    identity = unique_id(nccl, rank, path)
    code = nccl.ncclCommInitRank(ctypes.byref(communicator), size, identity, rank)
    if code:
        sys.exit(f"ncclCommInitRank: {nccl.ncclGetErrorString(code).decode()}")
    joined = time.monotonic() - begun

    def all_reduce() -> None:
        code = nccl.ncclAllReduce(
            source, target, ctypes.c_size_t(COUNT), FLOAT, SUM, communicator, None
        )
        if code:
            sys.exit(f"ncclAllReduce: {nccl.ncclGetErrorString(code).decode()}")

    for _ in range(3):
        all_reduce()
    check("cuCtxSynchronize", cuda.cuCtxSynchronize())
    begun = time.monotonic()
    for _ in range(ROUNDS):
        all_reduce()
    check("cuCtxSynchronize", cuda.cuCtxSynchronize())
    taken = (time.monotonic() - begun) / ROUNDS
    result = ctypes.create_string_buffer(4 * COUNT)
    check("cuMemcpyDtoH", cuda.cuMemcpyDtoH_v2(result, target, ctypes.c_size_t(4 * COUNT)))
    right = result.raw == struct.pack("f", size * (size + 1) / 2) * COUNT
    rate = 2 * (size - 1) / size * 4 * COUNT / taken / 1e9
    check("ncclCommDestroy", nccl.ncclCommDestroy(communicator))
    ctypes.CDLL(None).fflush(None)  # NCCL's log is the C library's standard output
    speed = f"; {rate:.0f} GB/s bus" if size > 1 else ""
    sys.stdout.write(
        f"rank {rank} of {size}: the sum is {'right' if right else 'WRONG'}; "
        f"joined in {joined:.1f} s{speed}\n"
    )
    sys.exit(0 if right else 1)


def every_gpu_here() -> None:
    size = device_count()
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__]
        path = os.path.join(folder, "id")
        logs = [
            os.open(os.path.join(folder, str(rank)), os.O_RDWR | os.O_CREAT) for rank in range(size)
        ]
        ranks = [
            subprocess.Popen(
                [*words, str(rank), str(size), path], stdout=log, stderr=subprocess.STDOUT
            )
            for rank, log in enumerate(logs)
        ]
        statuses = [rank.wait() for rank in ranks]
        for log in logs:  # not at the same time: the lines of two ranks would mix
            sys.stdout.write(os.pread(log, 1 << 24, 0).decode(errors="replace"))
        sys.exit(max(map(abs, statuses)))


if __name__ == "__main__":
    if sys.argv[1:] == ["here"]:
        every_gpu_here()
    one_rank(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
