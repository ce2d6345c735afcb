# SPDX-License-Identifier: Apache-2.0
"""NVML, by pynvml where it is there."""

import ctypes

try:
    import pynvml
except ImportError:
    library = ctypes.CDLL("libnvidia-ml.so.1")
    count = ctypes.c_uint()
    assert library.nvmlInit_v2() == 0
    assert library.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
    assert count.value
    print("devices:", count.value)
else:
    pynvml.nvmlInit()
    names = [
        pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))
        for index in range(pynvml.nvmlDeviceGetCount())
    ]
    assert names
    print(names, pynvml.nvmlSystemGetDriverVersion())
