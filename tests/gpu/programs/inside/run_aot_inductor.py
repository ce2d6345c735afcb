# SPDX-License-Identifier: Apache-2.0
"""Inductor's C++ back end: a shared library that is linked with libcuda."""

import absent

torch = absent.needed("torch")
inductor = absent.needed("torch._inductor")


class Step(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x * 2 + 1)


x = torch.randn(64, 64, device="cuda")
exported = torch.export.export(Step(), (x,))
path = inductor.aoti_compile_and_package(exported, package_path="/tmp/step.pt2")
assert torch.allclose(inductor.aoti_load_package(path)(x), Step()(x))
print("compiled ahead of time, loaded, equal")
