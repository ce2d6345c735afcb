# SPDX-License-Identifier: Apache-2.0
"""JAX: XLA compiles for the GPU, through ptxas or the driver."""

import absent

jax = absent.needed("jax")
jnp = absent.needed("jax.numpy")

(first, *_) = jax.devices()
assert first.platform == "gpu", jax.devices()
x = jnp.ones((512, 512))
assert float(jax.jit(lambda a: jnp.tanh(a @ a).sum())(x)) == 512 * 512
print("JAX", jax.__version__, jax.devices())
