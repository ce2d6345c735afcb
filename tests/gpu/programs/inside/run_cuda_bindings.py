# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's cuda-bindings: libraries are found by cuda-pathfinder."""

import absent

driver = absent.needed("cuda.bindings.driver")

assert driver.cuInit(0)[0] == 0
error, count = driver.cuDeviceGetCount()
assert error == 0
assert count > 0
print("devices:", count, "CUDA:", driver.cuDriverGetVersion()[1])
