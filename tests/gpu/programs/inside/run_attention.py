# SPDX-License-Identifier: Apache-2.0
"""Scaled dot product attention by each of PyTorch's kernels that this GPU has."""

import absent

torch = absent.needed("torch")
attention = absent.needed("torch.nn.attention")

q, k, v = (torch.randn(2, 8, 256, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
with attention.sdpa_kernel(attention.SDPBackend.MATH):
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v)
ran = []
for kernel in ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION"):
    try:
        with attention.sdpa_kernel(getattr(attention.SDPBackend, kernel)):
            found = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    except RuntimeError as error:
        print(f"{kernel}: {error}")
        continue
    assert torch.allclose(found, wanted, rtol=5e-2, atol=5e-2), kernel
    ran.append(kernel)
assert ran
print("equal:", ", ".join(ran))
