# SPDX-License-Identifier: Apache-2.0
"""Inductor writes Triton kernels, which are compiled, and loaded by a C module linked with libcuda."""

import absent

torch = absent.needed("torch")


@torch.compile
def step(a, b):
    return torch.nn.functional.gelu(a @ b).sum(dim=1) * 2 + a[:, 0]


a = torch.randn(512, 512, device="cuda")
b = torch.randn(512, 512, device="cuda")
wanted = torch.nn.functional.gelu(a @ b).sum(dim=1) * 2 + a[:, 0]
assert torch.allclose(step(a, b), wanted, rtol=1e-2, atol=1e-1)
print("compiled, equal to eager,", torch.cuda.get_device_name())
