# SPDX-License-Identifier: Apache-2.0
"""A kernel of Triton's own: its driver module is compiled by cc and linked with libcuda."""

import absent

torch = absent.needed("torch")
triton = absent.needed("triton")
tl = absent.needed("triton.language")


@triton.jit
def add(x, y, out, n, BLOCK: tl.constexpr):  # noqa: N803
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n) + tl.load(y + at, mask=at < n), mask=at < n)


x, y = torch.randn(2, 5000, device="cuda")
out = torch.empty_like(x)
add[(5,)](x, y, out, 5000, BLOCK=1024)
assert torch.equal(out, x + y)
print("Triton", triton.__version__, "ran a kernel")
