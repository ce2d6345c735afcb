# SPDX-License-Identifier: Apache-2.0
"""Whose host and whose image meet in a cell: never a layout with its own like.

An image is one of the zoo, so that its environment asks for GPUs too, and its loader is told of a
libcuda of its own: a stub, an older one, a newer one. A program is to get the driver's.
"""

from __future__ import annotations

from typing import NamedTuple


class Home(NamedTuple):
    """A fake host and an image."""

    name: str
    """The host's distribution."""
    host: str
    """Its name in tests/fakehost."""
    libraries: str
    """Where it has its driver."""
    image: str
    """The image's name in the zoo."""


HOMES = (
    # The image lists an older libcuda.
    Home("debian", "550-8gpu", "/usr/lib/x86_64-linux-gnu", "cuda-rockylinux"),
    # It lists a newer one, which does not run on the GeForce GPUs of this host.
    Home("redhat", "550-lib64", "/usr/lib64", "cuda-compat"),
    # It lists its stubs, and its loader knows the driver's folder as the last of its own.
    Home("arch", "550-arch", "/usr/lib", "cuda-devel"),
)
