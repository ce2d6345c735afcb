# SPDX-License-Identifier: Apache-2.0
"""Numba: looks for libcuda by NUMBA_CUDA_DRIVER, in /usr/lib and /usr/lib64, and by its name."""

import absent

numpy = absent.needed("numpy")
if not hasattr(numpy, "row_stack"):
    # Gone from NumPy 2.5; a numba-cuda that is older asks for it when it is imported.
    numpy.row_stack = numpy.vstack
cuda = absent.needed("numba.cuda")


@cuda.jit
def double(x):
    x[cuda.grid(1)] *= 2


x = cuda.to_device(numpy.arange(64, dtype=numpy.float32))
double[2, 32](x)
assert x.copy_to_host()[63] == 126
print("Numba:", cuda.get_current_device().name)
