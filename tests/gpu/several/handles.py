# SPDX-License-Identifier: Apache-2.0
"""Measures how long NVML takes for the handles of GPUs: ``handles.py LIBRARY HOW PCI-ADDRESS…``.

HOW is ``serial`` or ``parallel``. This is a separate program because NVML answers a process that has
asked once faster. It prints milliseconds: initialisation, all handles, shutdown.
"""

import ctypes
import json
import sys
import threading
import time


def main(library: str, how: str, *addresses: str) -> None:
    """Measure once."""
    nvml = ctypes.CDLL(library)
    moments = [time.perf_counter()]
    _check("nvmlInit", nvml.nvmlInit_v2())
    moments.append(time.perf_counter())

    def get_handle(address: str) -> None:
        handle = ctypes.c_void_p()
        code = nvml.nvmlDeviceGetHandleByPciBusId_v2(address.encode(), ctypes.byref(handle))
        _check(f"nvmlDeviceGetHandleByPciBusId {address}", code)

    if how == "parallel":
        threads = [threading.Thread(target=get_handle, args=(address,)) for address in addresses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for address in addresses:
            get_handle(address)
    moments.append(time.perf_counter())
    _check("nvmlShutdown", nvml.nvmlShutdown())
    moments.append(time.perf_counter())
    print(json.dumps([(moments[step + 1] - moments[step]) * 1e3 for step in range(3)]))


def _check(what: str, code: int) -> None:
    if code:
        sys.exit(f"{what}: error {code}")


if __name__ == "__main__":
    main(*sys.argv[1:])
