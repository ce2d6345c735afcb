# SPDX-License-Identifier: Apache-2.0
"""Times what NVML takes for the handles of GPUs: ``handles.py LIBRARY HOW PCI-ADDRESS…``.

HOW is ``serial`` or ``parallel``. A program by itself: a process that has asked once is answered
faster. It prints milliseconds: initialisation, all handles, shutdown.
"""

import ctypes
import json
import sys
import threading
import time


def main(library: str, how: str, *addresses: str) -> None:
    """Ask once."""
    nvml = ctypes.CDLL(library)
    moments = [time.perf_counter()]
    _check("nvmlInit", nvml.nvmlInit_v2())
    moments.append(time.perf_counter())

    def handle(address: str) -> None:
        gpu = ctypes.c_void_p()
        code = nvml.nvmlDeviceGetHandleByPciBusId_v2(address.encode(), ctypes.byref(gpu))
        _check(f"nvmlDeviceGetHandleByPciBusId {address}", code)

    if how == "parallel":
        threads = [threading.Thread(target=handle, args=(each,)) for each in addresses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for each in addresses:
            handle(each)
    moments.append(time.perf_counter())
    _check("nvmlShutdown", nvml.nvmlShutdown())
    moments.append(time.perf_counter())
    # It runs under the Pythons of distributions: no itertools.pairwise before 3.10.
    print(json.dumps([(moments[at + 1] - moments[at]) * 1e3 for at in range(3)]))


def _check(what: str, code: int) -> None:
    if code:
        sys.exit(f"{what}: error {code}")


if __name__ == "__main__":
    main(*sys.argv[1:])
