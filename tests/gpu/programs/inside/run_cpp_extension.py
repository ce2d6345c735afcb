# SPDX-License-Identifier: Apache-2.0
"""torch.utils.cpp_extension: a C++ module that is linked with libcuda."""

import absent

absent.needed("torch")
absent.needed("ninja")
extension = absent.needed("torch.utils.cpp_extension")

SOURCE = """
extern "C" int cuInit(unsigned); extern "C" int cuDeviceGetCount(int *);
int devices() { int n = -1; return cuInit(0) || cuDeviceGetCount(&n) ? -1 : n; }
"""
module = extension.load_inline("devices", SOURCE, functions=["devices"], extra_ldflags=["-lcuda"])
assert module.devices() > 0
print("devices:", module.devices())
