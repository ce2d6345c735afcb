# SPDX-License-Identifier: Apache-2.0
"""The platforms that the image's OpenCL loader finds."""

import ctypes
import glob
import os

import absent

if not glob.glob("/etc/OpenCL/vendors/*nvidia*"):
    # A host whose driver was installed without it: each of the two loaders has a variable.
    print("no nvidia.icd on this host: named to the loader by OCL_ICD_FILENAMES, OCL_ICD_VENDORS")
    os.environ["OCL_ICD_FILENAMES"] = os.environ["OCL_ICD_VENDORS"] = "libnvidia-opencl.so.1"

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
