# SPDX-License-Identifier: Apache-2.0
"""The platforms that the image's OpenCL loader finds."""

import ctypes

import absent

opencl = absent.library("libOpenCL.so.1")
count = ctypes.c_uint()
error = opencl.clGetPlatformIDs(0, None, ctypes.byref(count))
assert error == 0, f"clGetPlatformIDs: {error}"
platforms = (ctypes.c_void_p * count.value)()
assert opencl.clGetPlatformIDs(count, platforms, None) == 0
names = []
for platform in platforms:
    text = ctypes.create_string_buffer(256)
    opencl.clGetPlatformInfo(ctypes.c_void_p(platform), 0x0902, 256, text, None)
    names.append(text.value.decode())
print(names)
assert any("NVIDIA" in name for name in names)
