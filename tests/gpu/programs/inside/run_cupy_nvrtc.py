# SPDX-License-Identifier: Apache-2.0
"""CuPy: a kernel in CUDA C++, compiled by NVRTC."""

import absent

cupy = absent.needed("cupy")

square = cupy.RawKernel(
    'extern "C" __global__ void square(float *x) { x[threadIdx.x] *= x[threadIdx.x]; }', "square"
)
x = cupy.arange(32, dtype=cupy.float32)
square((1,), (32,), (x,))
assert float(x[31]) == 961
assert float((cupy.arange(8) ** 2).sum()) == 140
print("CuPy", cupy.__version__, "NVRTC", cupy.cuda.nvrtc.getVersion())
